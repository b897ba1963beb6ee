#include <torch/version.h>

#include "ringweave/cli/command.h"

namespace ringweave::cli {

std::string torch_version() { return TORCH_VERSION; }

}  // namespace ringweave::cli
