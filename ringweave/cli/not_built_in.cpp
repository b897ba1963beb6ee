// The commands that need libtorch, in a build without it.
#include "ringweave/base/error.h"
#include "ringweave/cli/command.h"

namespace ringweave::cli {
namespace {

void add_missing(CLI::App& app, const std::string& name,
                 const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description + " (not built in)");
  command->allow_extras();
  command->callback([name] {
    throw InvalidArgument(
        "[" + name +
        "] not built in: this program was built without libtorch (preset "
        "core); build the preset release");
  });
}

}  // namespace

void add_train(CLI::App& app, Context&) {
  add_missing(app, "train", "Train a model, its sequences split over ranks");
}

void add_bench(CLI::App& app, Context&) {
  add_missing(app, "bench", "Time attention and linear attention over ranks");
}

std::string torch_version() { return "not built in"; }

}  // namespace ringweave::cli
