// ringweave train: a model from a config and texts or tokens.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/checkpoint/checkpoint_folder.h"
#include "ringweave/checkpoint/state.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/override.h"
#include "ringweave/cli/progress.h"
#include "ringweave/cli/run_folder.h"
#include "ringweave/cli/watch.h"
#include "ringweave/config/model_source.h"
#include "ringweave/config/train_config.h"
#include "ringweave/data/dataset.h"
#include "ringweave/train/parallel.h"
#include "ringweave/train/trainer.h"
#include "ringweave/weights/initial_weights.h"
#include "ringweave/weights/layer_names.h"

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
  std::string init_from;
  std::vector<std::string> init_skip;
  std::string run_dir;
  std::string resume;
  bool json = false;
  bool dry_run = false;
};

/// What is no object is for the config's reader to name.
void set_init(const TrainFlags& flags, Json& json) {
  if (!json.is_object()) return;
  Json init = json.value("init", Json::object());
  if (!init.is_object()) return;
  if (!flags.init_from.empty()) init["from"] = flags.init_from;
  if (!flags.init_skip.empty()) init["skip"] = flags.init_skip;
  json["init"] = init;
}

/// The config file with the flags over it, complete but for the data. A run
/// that goes on has a config of its own.
config::TrainConfig resolve(const TrainFlags& flags, const RunPlace& place,
                            const Context& context) {
  require(!flags.config.empty() || place.begun,
          "[train] got no --config; want one, or --resume with a run that has "
          "begun");
  const std::string path =
      flags.config.empty() ? place.path + "/config.json" : flags.config;
  Json json = read_json_file_with(path, flags.set);
  if (flags.config.empty()) json = config::with_new_names(std::move(json));
  set_init(flags, json);
  // A run that goes on by its own config has all fields, and needs no folder.
  if (!place.step || !flags.config.empty()) {
    config::take_model_from_folder(json, path);
  }
  config::TrainConfig config = config::config_from_json(json, path);
  if (!flags.data.empty()) config.data.files = flags.data;
  if (flags.steps) config.steps = *flags.steps;
  if (flags.threads) config.threads = *flags.threads;
  if (!flags.plan.empty()) config.parallel.plan = flags.plan;
  config.parallel.ranks =
      context.ranks(flags.ranks, config.parallel.ranks, "[train]");
  train::check_run(config);
  return config;
}

/// Adds what steps went to, as fields.
void add(Json& json, const train::SpentByAll& spent) {
  json["seconds"] = spent.seconds;
  json["bytes_sent"] = spent.bytes;
  const auto shares = [&](const std::string& name, const train::Shares& of) {
    json[name + "_mean"] = of.mean;
    json[name + "_max"] = of.max;
  };
  shares("waiting_share", spent.waiting);
  shares("softmax_waiting_share", spent.softmax_waiting);
  shares("linear_waiting_share", spent.linear_waiting);
  shares("gradient_waiting_share", spent.gradient_waiting);
  shares("optimizer_share", spent.optimizer);
}

Json as_json(const train::StepReport& report) {
  Json json = {{"kind", "step"},
               {"step", report.step},
               {"loss", report.loss},
               {"learning_rate", report.learning_rate},
               {"grad_norm", report.grad_norm},
               {"tokens_per_second", report.tokens_per_second}};
  add(json, report.spent);
  return json;
}

Json as_json(const train::ValidationReport& report) {
  return {{"kind", "validation"},
          {"step", report.step},
          {"loss", report.loss},
          {"tokens", report.tokens}};
}

Json as_json(const train::CheckpointReport& report) {
  return {{"kind", "checkpoint"},
          {"step", report.step},
          {"seconds", report.seconds}};
}

Json as_json(const Warning& warning) {
  return {{"kind", name(warning.kind)},
          {"step", warning.step},
          {"value", warning.value},
          {"median", warning.median}};
}

Json optional_number(const std::optional<double>& number) {
  return number ? Json(*number) : Json(nullptr);
}

Json as_json(const train::TrainReport& report,
             const std::vector<double>& losses) {
  Json json = {{"parameters", report.start.parameters},
               {"train_tokens", report.start.train_tokens},
               {"validation_tokens", report.start.validation_tokens},
               {"steps", report.steps},
               {"losses", losses},
               {"first_loss", optional_number(report.first_loss)},
               {"last_loss", optional_number(report.last_loss)},
               {"validation_loss", optional_number(report.validation_loss)},
               {"tokens_per_second", report.tokens_per_second}};
  add(json, report.spent);
  return json;
}

/// Which tensors a run begins with.
std::string text(const weights::InitialWeights& initial, std::int64_t seed) {
  const auto list = [](const std::vector<std::string>& names) {
    std::string lines;
    for (const std::string& line : weights::by_layers(names)) {
      lines += "  " + line + "\n";
    }
    return lines;
  };
  std::string text =
      fmt::format("{} tensors taken from {}\n{}", initial.taken().size(),
                  initial.folder(), list(initial.taken()));
  if (!initial.drawn().empty()) {
    text += fmt::format("{} tensors drawn from seed {}\n{}",
                        initial.drawn().size(), seed, list(initial.drawn()));
  }
  if (!initial.left_out().empty()) {
    text += fmt::format("{} tensors of linear layers left out\n{}",
                        initial.left_out().size(), list(initial.left_out()));
  }
  return text;
}

std::string facts(const train::StepReport& report) {
  return fmt::format("loss {:.4f}  {} tokens/s  waiting {:.0f} %  sent {}B",
                     report.loss, with_prefix(report.tokens_per_second),
                     100 * report.spent.waiting.mean,
                     with_prefix(static_cast<double>(report.spent.bytes)));
}

std::string summary(const train::TrainReport& report, int ranks) {
  std::string text = fmt::format(
      "{} steps on {} rank{}: {:.1f} s, {} tokens/s, waiting {:.1f} % (most "
      "on one rank: {:.1f} %), sent {}B\n",
      report.steps, ranks, ranks == 1 ? "" : "s", report.spent.seconds,
      with_prefix(report.tokens_per_second), 100 * report.spent.waiting.mean,
      100 * report.spent.waiting.max,
      with_prefix(static_cast<double>(report.spent.bytes)));
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
/// paths. Names of built-in topologies and device tables stay.
config::TrainConfig anywhere(config::TrainConfig config) {
  const auto absolute = [](std::string& path) {
    if (!path.empty()) {
      path = std::filesystem::absolute(path).lexically_normal().string();
    }
  };
  absolute(config.init.from);
  for (std::string& path : config.data.files) absolute(path);
  for (std::string& path : config.data.validation_files) absolute(path);
  config::ParallelConfig& parallel = config.parallel;
  absolute(parallel.plan);
  for (std::string* name : {&parallel.topology, &parallel.device_table}) {
    if (std::filesystem::is_regular_file(*name)) absolute(*name);
  }
  return config;
}

/// What the leading process prints and stores while the others only train.
class Observer {
 public:
  Observer(const RunPlace& place, const config::TrainConfig& config, bool leads)
      : saves_(!place.path.empty()),
        progress_("step", config.steps,
                  leads ? Progress::style_for(stderr) : Progress::Style::off) {
    if (!leads || !saves_) return;
    folder_.emplace(place, config::to_json(anywhere(config)), versions(),
                    config.seed);
    if (!place.begun) return;
    const std::int64_t step = place.step.value_or(0);
    folder_->add(
        {{"kind", "resume"}, {"step", step}, {"ranks", config.parallel.ranks}});
    progress_.note(
        fmt::format("going on after {} steps of {}", step, place.path));
  }

  /// Called on the rank's own thread. An interrupt ends a run that saves after
  /// the step, with a checkpoint; another one at once, by throwing.
  train::Callbacks callbacks() {
    train::Callbacks callbacks;
    callbacks.start = [this](const train::StartReport& report) {
      progress_.note(fmt::format(
          "{} parameters, {} tokens to train on, {} to validate",
          with_prefix(static_cast<double>(report.parameters)),
          with_prefix(static_cast<double>(report.train_tokens)),
          with_prefix(static_cast<double>(report.validation_tokens))));
    };
    if (saves_) {
      callbacks.stop = interrupted;
    } else {
      callbacks.layer = check_interrupted;
    }
    callbacks.step = [this](const train::StepReport& report) {
      losses_.push_back(report.loss);
      if (folder_) folder_->add(as_json(report));
      progress_.update(report.step, facts(report));
      for (const Warning& warning :
           watch_.look(report.step, report.loss, report.spent.seconds)) {
        progress_.note(text(warning));
        if (folder_) folder_->add(as_json(warning));
      }
      if (!saves_) check_interrupted();
    };
    callbacks.validation = [this](const train::ValidationReport& report) {
      if (folder_) folder_->add(as_json(report));
      progress_.note(fmt::format("validation after {} steps: loss {:.4f}",
                                 report.step, report.loss));
      if (!saves_) check_interrupted();
    };
    callbacks.checkpoint = [this](const train::CheckpointReport& report) {
      if (folder_) folder_->add(as_json(report));
      progress_.note(fmt::format("checkpoint after {} steps, in {:.2f} s",
                                 report.step, report.seconds));
    };
    return callbacks;
  }

  const std::vector<double>& losses() const { return losses_; }

 private:
  bool saves_;
  Progress progress_;
  std::optional<RunFolder> folder_;
  Watch watch_;
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

/// Of a run that has a folder, what its checkpoints need.
train::Saving saving(const RunPlace& place, const std::string& data) {
  if (place.path.empty()) return {};
  return {.run = place.path,
          .resume = place.step,
          .data = data,
          .versions = versions()};
}

/// Throws InvalidArgument unless the run can go on as this one.
void check_resumable(const RunPlace& place, const config::TrainConfig& config,
                     const train::Saving& saving) {
  const std::string folder =
      checkpoint::CheckpointFolder(place.path).path_of(*place.step);
  checkpoint::State state = checkpoint::read_state(folder);
  // With the names and fields that it did not have yet.
  state.config = to_json(config::config_from_json(
      config::with_new_names(std::move(state.config)), folder));
  checkpoint::check_resumable(state, folder, to_json(config), saving.data);
  require(state.samples == state.step * config.data.batch,
          "[resume] got a checkpoint {} of {} sequences; want {}, which {} "
          "steps use",
          folder, state.samples, state.step * config.data.batch, state.step);
  require(config.steps >= *place.step,
          "[steps] got {}; want at least {}, the steps of the checkpoint {}",
          config.steps, *place.step, folder);
}

void train_job(const TrainFlags& flags, const config::TrainConfig& config,
               const train::Exchanges& chosen, const data::Dataset& dataset,
               const RunPlace& place, const train::Saving& saving,
               const weights::InitialWeights* initial, const Context& context) {
  const bool leads = context.leads();
  if (leads) {
    fmt::print(stderr, "exchanges: {}\n", exchange_names(config, chosen));
    if (place.step && !flags.init_from.empty()) {
      fmt::print(stderr,
                 "--init-from is not used: the run goes on with its weights\n");
    }
  }
  train::TrainReport report;
  std::vector<double> losses;
  {
    Observer observer(place, config, leads);
    report = train::run_on(context.engine, config, chosen, dataset,
                           observer.callbacks(), saving, initial);
    losses = observer.losses();
  }
  if (report.spent.stop != 0) throw Interrupted(report.spent.stop);
  if (!leads) return;
  fmt::print("{}", flags.json ? as_json(report, losses).dump() + "\n"
                              : summary(report, config.parallel.ranks));
}

void prepare(const TrainFlags& flags, Context& context) {
  require(
      flags.init_from.empty() || flags.resume.empty() || flags.resume == "auto",
      "[train] got --init-from and --resume {}; want one of them: a run "
      "that goes on has weights",
      flags.resume);
  RunPlace place = find_run(flags.run_dir, flags.resume);
  std::shared_ptr<RunLock> lock;
  if (context.leads() && place.begun && !flags.dry_run) {
    lock = std::make_shared<RunLock>(place.path);
    // As it is, now that nobody else writes there.
    place = find_run(flags.run_dir, flags.resume);
  }
  const config::TrainConfig config = resolve(flags, place, context);
  context.start_time_out = train::time_outs(config).start;
  const train::Exchanges chosen = train::exchanges(config);
  if (!flags.dry_run) {
    train::check_memory(config,
                        context.engine.ranks_here(config.parallel.ranks));
  }
  auto dataset = std::make_shared<const data::Dataset>(
      data::open_dataset(config.data, config.model.vocab_size));
  // Reads of each file.
  const bool compared = context.engine.is_group() || !place.path.empty();
  const std::string hash = compared ? dataset->hash() : "";
  std::shared_ptr<const weights::InitialWeights> initial;
  if (!config.init.from.empty() && !place.step) {
    initial = std::make_shared<const weights::InitialWeights>(config);
  }
  const train::Saving saving = cli::saving(place, hash);
  if (place.step) check_resumable(place, config, saving);
  context.facts = {{"command", "train"},
                   {"run folder", place.path.empty() ? "none" : "one"},
                   {"resume", fmt::format("{}", place.step.value_or(0))}};
  if (context.engine.is_group()) {
    context.facts.merge(train::facts(config, chosen, hash));
  }
  if (context.leads() && !place.path.empty() && !place.begun) {
    (flags.dry_run ? RunFolder::check : RunFolder::make)(place.path);
    if (!flags.dry_run) lock = std::make_shared<RunLock>(place.path);
  }
  context.job = [flags, config, chosen, dataset, place, saving, initial, lock,
                 &context] {
    if (initial && context.leads()) {
      fmt::print(stderr, "{}", text(*initial, config.seed));
    }
    if (!flags.dry_run) {
      return train_job(flags, config, chosen, *dataset, place, saving,
                       initial.get(), context);
    }
    if (context.leads()) fmt::print("{}\n", to_json(config).dump(2));
  };
}

}  // namespace

void add_train(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "train", "Train a model, its sequences split over ranks");
  auto flags = std::make_shared<TrainFlags>();
  command
      ->add_option("--config", flags->config,
                   "JSON config; see docs/ (with --resume: that of the run "
                   "unless given)")
      ->type_name("FILE");
  command
      ->add_option(
          "--data", flags->data,
          "Files, folders or patterns to train on, in place of data.files")
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
      ->add_option("--init-from", flags->init_from,
                   "Begin with the weights of a run's newest checkpoint, of "
                   "a checkpoint, or of a folder that Transformers wrote; its "
                   "model gives the fields of model that the config lacks")
      ->type_name("FOLDER");
  command
      ->add_option("--init-skip", flags->init_skip,
                   "Draw this tensor from the seed, whatever the folder has "
                   "(repeatable)")
      ->type_name("NAME")
      ->expected(1)
      ->take_all();
  command
      ->add_option("--run-dir", flags->run_dir,
                   "New folder for the resolved config, the metrics and the "
                   "checkpoints")
      ->type_name("FOLDER");
  command
      ->add_option("--resume", flags->resume,
                   "Go on from a checkpoint, in the run's folder: auto (the "
                   "newest in --run-dir; a new run if there is none), a run's "
                   "folder, or a checkpoint's")
      ->type_name("auto|FOLDER");
  command->add_flag("--json", flags->json,
                    "Print the result as one JSON object");
  command->add_flag("--dry-run", flags->dry_run,
                    "Check everything but the memory it takes, print the "
                    "resolved config, stop");
  command->callback([flags, &context] { prepare(*flags, context); });
}

}  // namespace ringweave::cli
