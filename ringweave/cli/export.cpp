// ringweave export: the weights of a run as a folder that Transformers loads.
#include "ringweave/weights/export.h"

#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

struct ExportFlags {
  std::string from;
  std::string out;
  std::string dtype;
  bool json = false;
};

void export_job(const ExportFlags& flags,
                std::optional<checkpoint::DataType> type) {
  const weights::ExportReport report =
      weights::export_weights(flags.from, flags.out, type);
  if (flags.json) {
    const Json json = {
        {"checkpoint", report.checkpoint}, {"out", flags.out},
        {"tensors", report.tensors},       {"parameters", report.parameters},
        {"dtype", name(report.type)},      {"bytes", report.bytes}};
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print("{} tensors, {} parameters as {}, {}B in {}\n", report.tensors,
             with_prefix(static_cast<double>(report.parameters)),
             name(report.type), with_prefix(static_cast<double>(report.bytes)),
             flags.out);
}

}  // namespace

void add_export(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "export", "Write a run's weights as a folder that Transformers loads");
  auto flags = std::make_shared<ExportFlags>();
  command
      ->add_option("from", flags->from,
                   "Folder of a run, whose newest checkpoint is taken, or of "
                   "a checkpoint")
      ->type_name("FOLDER")
      ->required();
  command->add_option("--out", flags->out, "New folder")
      ->type_name("FOLDER")
      ->required();
  command
      ->add_option("--dtype", flags->dtype,
                   "float64, float32, bfloat16 or float16, to which numbers "
                   "are rounded; without it they stay as they are")
      ->type_name("TYPE");
  command->add_flag("--json", flags->json,
                    "Print the result as one JSON object");
  command->callback([flags, &context] {
    std::optional<checkpoint::DataType> type;
    if (!flags->dtype.empty()) {
      type = checkpoint::float_type_from_name(flags->dtype, "--dtype");
    }
    context.facts = {{"command", "export"}};
    context.job = [flags, type, &context] {
      if (context.leads()) export_job(*flags, type);
    };
  });
}

}  // namespace ringweave::cli
