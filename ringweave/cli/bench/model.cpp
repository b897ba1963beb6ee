// ringweave bench model: whole training steps of a config's model, and what
// they go to.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/bench/bench.h"
#include "ringweave/cli/bench/machine.h"
#include "ringweave/cli/bench/model_report.h"
#include "ringweave/cli/bench/processor_share.h"
#include "ringweave/cli/bench/step_runs.h"
#include "ringweave/cli/bench/transfers.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/override.h"
#include "ringweave/cli/progress.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/config/model_source.h"
#include "ringweave/config/train_config.h"
#include "ringweave/data/dataset.h"
#include "ringweave/train/parallel.h"
#include "ringweave/train/trainer.h"

namespace ringweave::cli {
namespace {

constexpr const char* kBenchModelWhere = "[bench model]";

struct Options {
  std::string config;
  std::vector<std::string> set;
  std::vector<std::string> data;
  std::optional<int> ranks;
  std::optional<int> threads;
  std::string softmax_list;  ///< empty: the config's
  std::string linear_list;
  std::vector<std::int64_t> seq_lens;
  MachineOptions machine;
  int repeat = 5;
  bool json = false;
};

/// What a row of the report is of.
struct Case {
  config::TrainConfig config;
  train::Exchanges exchanges;
  std::shared_ptr<const data::Dataset> dataset;  ///< null: emulated
  std::shared_ptr<const Step> step;  ///< null: nothing is asked of the machine
};

/// Tokens of the config's vocabulary for all steps.
data::Dataset random_dataset(const config::TrainConfig& config) {
  const std::int64_t tokens =
      config.data.seq_len * config.data.batch * config.steps + 1;
  std::vector<std::unique_ptr<const data::Source>> sources;
  sources.push_back(
      data::random_tokens(tokens, config.model.vocab_size, config.seed));
  return data::make_dataset(
      std::make_shared<const data::Corpus>(std::move(sources)), nullptr,
      config.data);
}

/// Without validation, checkpoints, and with a step to warm up.
config::TrainConfig base_config(const Options& options,
                                const Context& context) {
  Json json = read_json_file_with(options.config, options.set);
  // Its shapes; the weights are drawn.
  config::take_model_from_folder(json, options.config);
  config::TrainConfig config = config::config_from_json(json, options.config);
  config.init = {};
  config.data.files = options.data;
  if (options.data.empty()) {
    config.data.files = {"random numbers"};
    require(config.data.documents == "ignore",
            "{} got data.documents {} without --data; want ignore, or files "
            "that have documents",
            kBenchModelWhere, config.data.documents);
    // Of random numbers each may stand for a masked one.
    if (!config.model.causal && !config.data.mask_token) {
      config.data.mask_token = config.model.vocab_size - 1;
    }
  }
  config.data.validation_files.clear();
  config.data.validation_fraction = 0;
  config.validation = {};
  config.checkpoint = {};
  config.steps = options.repeat + 1;
  if (options.threads) config.threads = *options.threads;
  config.parallel.ranks =
      context.ranks(options.ranks, config.parallel.ranks, kBenchModelWhere);
  return config;
}

/// The names of a list, or the config's. Throws InvalidArgument for a list
/// that no layer of the model can use.
std::vector<std::string> names(const std::string& list,
                               const std::string& otherwise, const char* flag,
                               bool used) {
  if (list.empty()) return {otherwise};
  require(used, "{} got {} {}, and a model without such layers",
          kBenchModelWhere, flag, list);
  std::vector<std::string> names = schedule::split_strategy_names(list);
  check_distinct(names, flag, kBenchModelWhere);
  return names;
}

/// What the planner picked stands beside the same by its name.
std::string row_name(const std::string& asked, const std::string& name) {
  return asked == train::kAuto ? fmt::format("auto ({})", name) : name;
}

/// Throws as the other read_machine().
Machine read_machine(const Options& options,
                     const config::TrainConfig& config) {
  require(options.data.empty() || !options.machine.emulates(),
          "{} got --data with --compute emulate; want none, as nothing is "
          "computed",
          kBenchModelWhere);
  require(options.machine.topology.empty() || config.parallel.data == 1,
          "{} got --topology with parallel.data {}; want 1, as it is the "
          "machine of ranks that all split the same sequences",
          kBenchModelWhere, config.parallel.data);
  return read_machine(options.machine, config.parallel.ranks, config.compute,
                      options.threads, kBenchModelWhere);
}

/// Runs the steps of a case on this process's ranks, in training. Returns this
/// process's share of the processor.
double train_steps(const Case& of, const comm::Engine& engine,
                   ModelReport& report) {
  std::optional<ProcessorTime> processor;
  const train::Callbacks callbacks{
      .layer = check_interrupted, .step = [&](const train::StepReport& step) {
        report.loss = step.loss;
        if (processor) report.steps.push_back(step.spent);
        if (!processor) processor.emplace();  // that was to warm up
      }};
  train::run_on(engine, of.config, of.exchanges, *of.dataset, callbacks);
  return processor->spent().share;
}

/// The same without computing.
double emulate_steps(const Case& of, const comm::Engine& engine, int repeat,
                     ModelReport& report) {
  std::optional<ProcessorTime> processor;
  engine.run(of.config.parallel.ranks, train::time_outs(of.config),
             [&](comm::Communicator& communicator) {
               const bool first = communicator.rank() == engine.rank();
               auto steps =
                   run_emulated_steps(*of.step, repeat, communicator, [&] {
                     if (first) processor.emplace();
                   });
               if (first) report.steps = std::move(steps);
             });
  return processor->spent().share;
}

/// Runs a case on this process's ranks; complete on the leading process.
ModelReport measure(const Case& of, const comm::Engine& engine, int repeat,
                    const Machine& machine) {
  const config::TrainConfig& config = of.config;
  ModelReport report{
      .softmax = config.model.has_softmax()
                     ? row_name(config.parallel.softmax,
                                schedule::name(of.exchanges.softmax))
                     : "",
      .linear =
          config.model.has_linear()
              ? row_name(config.parallel.linear, of.exchanges.linear->name())
              : "",
      .seq_len = config.data.seq_len,
      .tokens = config.data.batch * config.data.seq_len,
      .parameters =
          static_cast<std::int64_t>(config::weight_count(config.model))};
  const bool peak_is_own = reset_peak_memory();
  const double mine = machine.emulates()
                          ? emulate_steps(of, engine, repeat, report)
                          : train_steps(of, engine, report);
  const std::int64_t peak =
      peak_is_own ? peak_memory() / engine.ranks_here(config.parallel.ranks)
                  : 0;
  engine.run(config.parallel.ranks, train::time_outs(config),
             [&](comm::Communicator& communicator) {
               const std::int64_t most =
                   comm::max_over_ranks(peak, communicator);
               const double share =
                   busiest_share(mine, engine.is_group(), communicator);
               std::optional<double> bare;
               if (machine.topology) {
                 bare = bare_seconds(*of.step, repeat, communicator);
               }
               if (communicator.rank() != 0) return;
               if (most > 0) report.peak_memory_bytes = most;
               report.processor_share = share;
               report.alone.bare_seconds = bare;
             });
  if (engine.rank() != 0 || !machine.topology) return report;
  report.alone.bound_seconds = bound_seconds(*of.step, *machine.topology);
  if (machine.device_table) {
    report.alone.predicted_seconds =
        predicted_seconds(*of.step, *machine.topology);
  }
  return report;
}

/// The fields that all cases have in common.
Json common(const config::TrainConfig& config) {
  Json json = to_json(config);
  json.erase("steps");
  json["data"].erase("seq_len");
  json["data"].erase("files");
  json["parallel"].erase("softmax");
  json["parallel"].erase("linear");
  return json;
}

void print(const Options& options, const config::TrainConfig& config,
           const Context& context, const std::vector<ModelReport>& reports) {
  const bool emulates = options.machine.emulates();
  if (!options.json) {
    fmt::print(
        "training steps of {} parameters, {} sequences, {}; {}\n{}"
        "medians of {}; times of parts are means over ranks, in ms; softmax, "
        "linear, gradient and other are waits\n\n{}",
        with_prefix(static_cast<double>(reports.front().parameters)),
        config.data.batch, name(config.compute),
        context.ranks_text(config.parallel.ranks),
        emulates ? fmt::format("EMULATED compute: ranks wait as long as {} "
                               "would compute; the optimizer takes no time\n",
                               options.machine.device_table)
                 : "",
        options.repeat, table(reports));
    return;
  }
  Json cases = Json::array();
  for (const ModelReport& report : reports) cases.push_back(to_json(report));
  Json json = {{"bench", "model"},
               {"ranks", config.parallel.ranks},
               {"processes", context.engine.is_group()},
               {"parameters", reports.front().parameters},
               {"batch", config.data.batch},
               {"dtype", name(config.compute)},
               {"repeat", options.repeat},
               {"config", common(config)},
               {"cases", std::move(cases)}};
  json.update(to_json(options.machine));
  fmt::print("{}\n", json.dump());
}

void run(const Options& options, const Machine& machine,
         const std::vector<Case>& cases, const Context& context) {
  std::vector<ModelReport> reports;
  Progress progress(
      "case", static_cast<std::int64_t>(cases.size()),
      context.leads() ? Progress::style_for(stderr) : Progress::Style::off);
  for (const Case& of : cases) {
    reports.push_back(measure(of, context.engine, options.repeat, machine));
    progress.update(static_cast<std::int64_t>(reports.size()), "");
  }
  if (!context.leads()) return;
  print(options, cases.front().config, context, reports);
}

/// Before any work. Throws InvalidArgument for what --topology and --compute
/// emulate can't do, or what takes more memory than there is.
Case make_case(const config::TrainConfig& config,
               std::shared_ptr<const data::Dataset> dataset,
               const Machine& machine, int ranks_here) {
  Case made{config, train::exchanges(config), std::move(dataset), nullptr};
  if (!machine.asked()) return made;
  made.step = std::make_shared<const Step>(config, made.exchanges,
                                           machine.timed(), kBenchModelWhere);
  require_memory(memory_bytes(*made.step) * ranks_here,
                 fmt::format("{} got a model with batches", kBenchModelWhere));
  return made;
}

std::vector<Case> make_cases(const Options& options, const Machine& machine,
                             config::TrainConfig config,
                             const Context& context) {
  const auto softmax = names(options.softmax_list, config.parallel.softmax,
                             "--softmax", config.model.has_softmax());
  const auto linear = names(options.linear_list, config.parallel.linear,
                            "--linear", config.model.has_linear());
  if ((!options.softmax_list.empty() || !options.linear_list.empty()) &&
      !config.parallel.plan.empty()) {
    throw InvalidArgument(fmt::format(
        "{} got --softmax or --linear, and a config with parallel.plan {}; "
        "want one of them",
        kBenchModelWhere, config.parallel.plan));
  }
  check_distinct(options.seq_lens, "--seq-len", kBenchModelWhere);
  const int ranks_here = context.engine.ranks_here(config.parallel.ranks);
  std::vector<Case> cases;
  for (const std::int64_t seq_len : options.seq_lens.empty()
                                        ? std::vector{config.data.seq_len}
                                        : options.seq_lens) {
    config.data.seq_len = seq_len;
    config::check(config);
    std::shared_ptr<const data::Dataset> dataset;
    if (!machine.emulates()) {
      train::check_memory(config, ranks_here);
      dataset = std::make_shared<const data::Dataset>(
          options.data.empty()
              ? random_dataset(config)
              : data::open_dataset(config.data, config.model.vocab_size));
    }
    for (const std::string& strategy : softmax) {
      for (const std::string& exchange : linear) {
        config.parallel.softmax = strategy;
        config.parallel.linear = exchange;
        train::check_run(config);
        cases.push_back(make_case(config, dataset, machine, ranks_here));
      }
    }
  }
  return cases;
}

/// Of all cases, to be compared over ranks.
std::map<std::string, std::string> facts(const Options& options,
                                         const std::vector<Case>& cases,
                                         bool group) {
  std::map<std::string, std::string> facts;
  // Of the files, which all cases read; a hash reads them again.
  const std::string data =
      group && !options.data.empty() ? cases.front().dataset->hash() : "random";
  for (std::size_t i = 0; group && i < cases.size(); ++i) {
    for (const auto& [fact, text] :
         train::facts(cases[i].config, cases[i].exchanges, data)) {
      facts.emplace(fmt::format("case {} {}", i, fact), text);
    }
  }
  facts.emplace("command", "bench model");
  return facts;
}

void prepare(const Options& options, Context& context) {
  check_repeat(options.repeat, kBenchModelWhere);
  const config::TrainConfig config = base_config(options, context);
  const Machine machine = read_machine(options, config);
  auto cases = std::make_shared<const std::vector<Case>>(
      make_cases(options, machine, config, context));
  context.start_time_out = train::time_outs(config).start;
  context.facts = facts(options, *cases, context.engine.is_group());
  context.facts.merge(machine.facts());
  context.job = [options, machine, cases, &context] {
    run(options, machine, *cases, context);
  };
}

}  // namespace

void add_bench_model(CLI::App& bench, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "model", "Whole training steps of a model, and what they go to");
  command->add_option("--config", options->config, "JSON config, as of train")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--set", options->set,
                   "Set a field of the config: --set model.hidden=256 "
                   "(repeatable)")
      ->type_name("PATH=VALUE")
      ->expected(1)
      ->take_all();
  command
      ->add_option("--data", options->data,
                   "Files, folders or patterns to train on; default: random "
                   "tokens")
      ->type_name("FILE");
  command
      ->add_option("--ranks", options->ranks,
                   "Ranks, as threads of this process; default: the config's "
                   "(under a launcher: its processes)")
      ->type_name("N");
  command
      ->add_option("--threads", options->threads,
                   "Threads per rank; 0: cores / ranks; default: the config's")
      ->type_name("N");
  command
      ->add_option("--softmax", options->softmax_list,
                   "Strategies of softmax layers, with commas: ring, "
                   "multi_ring, auto, ...; default: the config's")
      ->type_name("NAME,...");
  command
      ->add_option("--linear", options->linear_list,
                   "How states of linear layers travel, with commas: chain, "
                   "all_gather, auto, ...; default: the config's")
      ->type_name("NAME,...");
  command
      ->add_option("--seq-len", options->seq_lens,
                   "Tokens of a sequence, with commas; default: the config's")
      ->delimiter(',')
      ->type_name("N,...");
  add_machine_options(*command, options->machine);
  command
      ->add_option("--repeat", options->repeat,
                   "Steps that are measured, after one to warm up")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options, &context] { prepare(*options, context); });
}

}  // namespace ringweave::cli
