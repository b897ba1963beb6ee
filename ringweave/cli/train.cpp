// ringweave train: a model from a config and text files.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/cli/command.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/override.h"
#include "ringweave/cli/progress.h"
#include "ringweave/cli/run_folder.h"
#include "ringweave/config/train_config.h"
#include "ringweave/train/parallel.h"
#include "ringweave/train/trainer.h"

namespace ringweave::cli {
namespace {

struct TrainFlags {
  std::string config;
  std::vector<std::string> data;
  std::optional<int> ranks;
  std::optional<std::int64_t> steps;
  std::optional<int> threads;
  std::vector<std::string> set;
  std::string plan;
  std::string run_dir;
  bool json = false;
  bool dry_run = false;
};

/// The config file with the flags over it, complete but for the data.
config::TrainConfig resolve(const TrainFlags& flags, const Context& context) {
  Json json = read_json_file(flags.config);
  for (const std::string& assignment : flags.set) {
    apply_override(json, assignment);
  }
  config::TrainConfig config = config::config_from_json(json, flags.config);
  if (!flags.data.empty()) config.data.files = flags.data;
  if (flags.steps) config.steps = *flags.steps;
  if (flags.threads) config.threads = *flags.threads;
  if (!flags.plan.empty()) config.parallel.plan = flags.plan;
  config.parallel.ranks =
      context.ranks(flags.ranks, config.parallel.ranks, "[train]");
  train::check_run(config);
  return config;
}

Json to_json(const train::StepReport& report) {
  return {{"kind", "step"},
          {"step", report.step},
          {"loss", report.loss},
          {"learning_rate", report.learning_rate},
          {"grad_norm", report.grad_norm},
          {"seconds", report.seconds},
          {"tokens_per_second", report.tokens_per_second},
          {"waiting_share_mean", report.waiting_share_mean},
          {"waiting_share_max", report.waiting_share_max},
          {"bytes_sent", report.bytes_sent}};
}

Json to_json(const train::ValidationReport& report) {
  return {{"kind", "validation"},
          {"step", report.step},
          {"loss", report.loss},
          {"tokens", report.tokens}};
}

Json optional_number(const std::optional<double>& number) {
  return number ? Json(*number) : Json(nullptr);
}

Json to_json(const train::TrainReport& report,
             const std::vector<double>& losses) {
  return {{"parameters", report.start.parameters},
          {"train_tokens", report.start.train_tokens},
          {"validation_tokens", report.start.validation_tokens},
          {"steps", report.steps},
          {"losses", losses},
          {"first_loss", optional_number(report.first_loss)},
          {"last_loss", optional_number(report.last_loss)},
          {"validation_loss", optional_number(report.validation_loss)},
          {"seconds", report.seconds},
          {"tokens_per_second", report.tokens_per_second},
          {"waiting_share_mean", report.waiting_share_mean},
          {"waiting_share_max", report.waiting_share_max},
          {"bytes_sent", report.bytes_sent}};
}

std::string facts(const train::StepReport& report) {
  return fmt::format("loss {:.4f}  {} tokens/s  waiting {:.0f} %  sent {}B",
                     report.loss, with_prefix(report.tokens_per_second),
                     100 * report.waiting_share_mean,
                     with_prefix(static_cast<double>(report.bytes_sent)));
}

std::string summary(const train::TrainReport& report, int ranks) {
  std::string text = fmt::format(
      "{} steps on {} rank{}: {:.1f} s, {} tokens/s, waiting {:.1f} % (most "
      "on one rank: {:.1f} %), sent {}B\n",
      report.steps, ranks, ranks == 1 ? "" : "s", report.seconds,
      with_prefix(report.tokens_per_second), 100 * report.waiting_share_mean,
      100 * report.waiting_share_max,
      with_prefix(static_cast<double>(report.bytes_sent)));
  if (report.first_loss && report.last_loss) {
    text += fmt::format("loss {:.4f} -> {:.4f}\n", *report.first_loss,
                        *report.last_loss);
  }
  if (report.validation_loss) {
    text += fmt::format("validation loss {:.4f}\n", *report.validation_loss);
  }
  return text;
}

/// The config as it holds from any folder, for the run's own: files by absolute
/// paths. Names of built-in topologies and devices stay.
config::TrainConfig anywhere(config::TrainConfig config) {
  const auto absolute = [](std::string& path) {
    if (!path.empty()) {
      path = std::filesystem::absolute(path).lexically_normal().string();
    }
  };
  for (std::string& path : config.data.files) absolute(path);
  for (std::string& path : config.data.validation_files) absolute(path);
  config::ParallelConfig& parallel = config.parallel;
  absolute(parallel.plan);
  for (std::string* name : {&parallel.topology, &parallel.device}) {
    if (std::filesystem::is_regular_file(*name)) absolute(*name);
  }
  return config;
}

/// What the leading process prints and stores while the others only train.
class Observer {
 public:
  Observer(const TrainFlags& flags, const config::TrainConfig& config,
           bool leads)
      : progress_("step", config.steps,
                  leads ? Progress::style_for(stderr) : Progress::Style::off) {
    if (leads && !flags.run_dir.empty()) {
      folder_.emplace(flags.run_dir, config::to_json(anywhere(config)),
                      versions(), config.seed);
    }
  }

  /// Called on the rank's own thread; an interrupt ends the run by throwing.
  train::Callbacks callbacks() {
    train::Callbacks callbacks;
    callbacks.start = [this](const train::StartReport& report) {
      progress_.note(fmt::format(
          "{} parameters, {}B of text to train on, {}B to validate",
          with_prefix(static_cast<double>(report.parameters)),
          with_prefix(static_cast<double>(report.train_tokens)),
          with_prefix(static_cast<double>(report.validation_tokens))));
    };
    callbacks.layer = check_interrupted;
    callbacks.step = [this](const train::StepReport& report) {
      losses_.push_back(report.loss);
      if (folder_) folder_->add(to_json(report));
      progress_.update(report.step, facts(report));
      check_interrupted();
    };
    callbacks.validation = [this](const train::ValidationReport& report) {
      if (folder_) folder_->add(to_json(report));
      progress_.note(fmt::format("validation after {} steps: loss {:.4f}",
                                 report.step, report.loss));
      check_interrupted();
    };
    return callbacks;
  }

  const std::vector<double>& losses() const { return losses_; }

 private:
  Progress progress_;
  std::optional<RunFolder> folder_;
  std::vector<double> losses_;
};

/// Of the layers that the model has.
std::string exchange_names(const config::TrainConfig& config,
                           const train::Exchanges& chosen) {
  std::vector<std::string> names;
  if (config.model.has_softmax()) {
    names.push_back("softmax " + schedule::name(chosen.softmax));
  }
  if (config.model.has_linear()) {
    names.push_back("linear " + chosen.linear->name());
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

void train_job(const TrainFlags& flags, const config::TrainConfig& config,
               const train::Exchanges& chosen, const train::Data& data,
               const Context& context) {
  const bool leads = context.leads();
  if (leads) {
    fmt::print(stderr, "exchanges: {}\n", exchange_names(config, chosen));
  }
  train::TrainReport report;
  std::vector<double> losses;
  {
    Observer observer(flags, config, leads);
    report = train::run_on(context.engine, config, chosen, data,
                           observer.callbacks());
    losses = observer.losses();
  }
  if (!leads) return;
  fmt::print("{}", flags.json ? to_json(report, losses).dump() + "\n"
                              : summary(report, config.parallel.ranks));
}

void prepare(const TrainFlags& flags, Context& context) {
  const config::TrainConfig config = resolve(flags, context);
  context.start_time_out = train::time_outs(config).start;
  const train::Exchanges chosen = train::exchanges(config);
  if (!flags.dry_run) {
    train::check_memory(config,
                        context.engine.ranks_here(config.parallel.ranks));
  }
  auto data =
      std::make_shared<const train::Data>(train::read_data(config.data));
  context.facts = {{"command", "train"}};
  if (context.engine.is_group()) {
    context.facts.merge(train::facts(config, chosen, *data));
  }
  if (context.leads() && !flags.run_dir.empty()) {
    (flags.dry_run ? RunFolder::check : RunFolder::make)(flags.run_dir);
  }
  context.job = [flags, config, chosen, data, &context] {
    if (!flags.dry_run) return train_job(flags, config, chosen, *data, context);
    if (context.leads()) fmt::print("{}\n", to_json(config).dump(2));
  };
}

}  // namespace

void add_train(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "train", "Train a model, its sequences split over ranks");
  auto flags = std::make_shared<TrainFlags>();
  command->add_option("--config", flags->config, "JSON config; see docs/")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--data", flags->data,
                   "Text files to train on, in place of data.files")
      ->type_name("FILE");
  command
      ->add_option("--ranks", flags->ranks,
                   "Ranks, as threads of this process (under torchrun: must "
                   "be the number of processes)")
      ->type_name("N");
  command
      ->add_option("--steps", flags->steps, "Steps, in place of the config's")
      ->type_name("N");
  command
      ->add_option("--threads", flags->threads,
                   "Threads per rank; 0: cores / ranks")
      ->type_name("N");
  command
      ->add_option("--set", flags->set,
                   "Set a field of the config: --set model.hidden=256 "
                   "(repeatable; the value is JSON or a word)")
      ->type_name("PATH=VALUE")
      ->expected(1)
      ->take_all();
  command
      ->add_option("--plan", flags->plan,
                   "A file of `ringweave plan --save`, in place of "
                   "parallel.softmax and parallel.linear")
      ->type_name("FILE");
  command
      ->add_option("--run-dir", flags->run_dir,
                   "New folder for the resolved config and the metrics")
      ->type_name("FOLDER");
  command->add_flag("--json", flags->json,
                    "Print the result as one JSON object");
  command->add_flag("--dry-run", flags->dry_run,
                    "Check everything but the memory it takes, print the "
                    "resolved config, stop");
  command->callback([flags, &context] { prepare(*flags, context); });
}

}  // namespace ringweave::cli
