// The simulated device in Python's torch, and an op that asks it for reports.
#include <string>
#include <vector>

#include <torch/library.h>

#include "ringweave/device/simulated/simulated.h"

namespace ringweave::device::simulated {
namespace {

std::vector<std::string> reports() {
  std::vector<std::string> texts;
  for (const Report& report : take_reports()) texts.push_back(report.text());
  return texts;
}

TORCH_LIBRARY(ringweave_sim, library) {
  library.def("reports() -> str[]", reports);
}

}  // namespace
}  // namespace ringweave::device::simulated
