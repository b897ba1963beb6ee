#include "ringweave/cli/not_built_in.h"

#include "ringweave/base/error.h"

namespace ringweave::cli {

void add_not_built_in(CLI::App& app, const std::string& name,
                      const std::string& description, const std::string& why) {
  CLI::App* command = app.add_subcommand(name, description + " (not built in)");
  command->allow_extras();
  command->callback([name, why] {
    throw InvalidArgument("[" + name + "] not built in: " + why);
  });
}

}  // namespace ringweave::cli
