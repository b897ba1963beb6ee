// The commands that need libtorch, in a build without it.
#include "ringweave/cli/command.h"
#include "ringweave/cli/not_built_in.h"

namespace ringweave::cli {
namespace {

void add_missing(CLI::App& app, const std::string& name,
                 const std::string& description) {
  add_not_built_in(app, name, description,
                   "this program was built without libtorch (preset core); "
                   "build the preset release");
}

}  // namespace

void add_train(CLI::App& app, Context&) {
  add_missing(app, "train", "Train a model, its sequences split over ranks");
}

void add_export(CLI::App& app, Context&) {
  add_missing(app, "export",
              "Write a run's weights as a folder that Transformers loads");
}

void add_generate(CLI::App& app, Context&) {
  add_missing(app, "generate",
              "Go on with prompts by the weights of a run or a folder");
}

void add_bench(CLI::App& app, Context& context) {
  CLI::App* bench = app.add_subcommand("bench", "Time what ranks do together");
  bench->require_subcommand(1);
  add_missing(*bench, "attention", "Softmax attention split over ranks");
  add_missing(*bench, "linear", "Linear attention split over ranks");
  add_bench_exchange(*bench, context);
  add_missing(*bench, "model", "Whole training steps of a model");
}

std::string torch_version() { return "not built in"; }

}  // namespace ringweave::cli
