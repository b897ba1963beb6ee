// ringweave plan: what every strategy and exchange costs on a topology, how
// far each is from the best possible, and which one to take.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/mask_option.h"
#include "ringweave/cli/output_file.h"
#include "ringweave/cli/plan_report.h"
#include "ringweave/config/run_to_plan.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/planner/planner.h"
#include "ringweave/planner/search/searched.h"

namespace ringweave::cli {
namespace {

constexpr const char* kLayout = "zigzag";
constexpr const char* kDeviceTable = "h100";

struct PlanFlags {
  std::optional<std::string> topology;
  std::optional<int> ranks;
  std::optional<std::int64_t> config_ranks;  // of the config's topology
  std::string model;
  std::optional<std::int64_t> heads, kv_heads, head_dim, layers, batch;
  std::string pattern;
  std::string linear;
  std::string compute;
  std::optional<std::int64_t> seq_len;
  std::optional<std::string> layout;
  std::optional<std::string> mask;
  std::optional<std::string> device_table;
  std::optional<double> memory_limit, message_overhead;
  bool synthesise = false;
  std::string save;
  bool json = false;
};

/// What the config says where no flag does.
void read_run(PlanFlags& flags, const config::RunToPlan& run) {
  const auto take = [](auto& flag, const auto& value) {
    if (!flag) flag = value;
  };
  // Another topology may have other ranks than the config's run.
  if (!flags.topology) take(flags.config_ranks, run.ranks);
  take(flags.topology, run.topology);
  take(flags.seq_len, run.seq_len);
  take(flags.layout, run.layout);
  take(flags.device_table, run.device_table);
  take(flags.memory_limit, run.memory_limit_bytes);
  take(flags.message_overhead, run.message_overhead_seconds);
}

/// One layer of softmax attention, without a config.
config::RunToPlan run_of_heads(const PlanFlags& flags) {
  require(flags.heads.has_value(),
          "[plan] got neither --model nor --heads; want one of them");
  config::RunToPlan run;
  run.model = {.layers = 1,
               .kv_heads = *flags.heads,
               .head_dim = 64,
               .pattern = "N",
               .linear = config::LinearConfig("lightning")};
  return run;
}

/// Of the config, with the flags over it.
planner::ModelShape shape_of(const PlanFlags& flags, config::RunToPlan run) {
  config::ModelConfig& model = run.model;
  if (flags.heads) model.heads = *flags.heads;
  if (flags.kv_heads) model.kv_heads = *flags.kv_heads;
  if (flags.head_dim) model.head_dim = *flags.head_dim;
  if (flags.layers) model.layers = *flags.layers;
  if (flags.batch) run.batch = *flags.batch;
  if (!flags.pattern.empty()) model.pattern = flags.pattern;
  if (!flags.linear.empty()) model.linear = config::LinearConfig(flags.linear);
  if (!flags.compute.empty()) {
    run.compute = model_type_from_name(flags.compute);
  }
  return planner::model_shape(model, run.compute, run.batch, "plan");
}

/// Fills in `flags` what the config or a default says.
planner::PlanRequest request_of(PlanFlags& flags) {
  const config::RunToPlan run =
      flags.model.empty() ? run_of_heads(flags)
                          : config::run_to_plan_from_json(
                                read_json_file(flags.model), flags.model);
  read_run(flags, run);
  const planner::ModelShape shape = shape_of(flags, run);
  require(flags.topology.has_value(),
          "[plan] got neither --topology nor a --model CONFIG with "
          "parallel.topology; want one of them");
  require(flags.seq_len.has_value(),
          "[plan] got neither --seq-len nor a --model CONFIG with "
          "data.seq_len; want one of them");
  if (!flags.layout) flags.layout = kLayout;
  planner::PlanRequest request{
      .machine = planner::load_machine(*flags.topology),
      .shape = shape,
      .mask = flags.mask ? mask_from_option(*flags.mask, "[plan]")
                         : config::planned_mask(run.model),
      .device_table =
          planner::load_device_table(flags.device_table.value_or(kDeviceTable)),
      .memory_limit_bytes = flags.memory_limit,
      .message_overhead_seconds = flags.message_overhead.value_or(0)};
  const int ranks = request.machine.ranks();
  require(!flags.ranks || *flags.ranks == ranks,
          "[plan] got --ranks {} for a topology of {}; want {} or no --ranks",
          flags.ranks.value_or(0), ranks, ranks);
  require(flags.config_ranks.value_or(ranks) == ranks,
          "[{}.parallel.ranks] got {} for a topology of {}; want {}, or none",
          flags.model, flags.config_ranks.value_or(0), ranks, ranks);
  require(*flags.seq_len >= 1, "[plan] got --seq-len {}; want at least 1",
          *flags.seq_len);
  require(request.message_overhead_seconds >= 0,
          "[plan] got --message-overhead {}; want at least 0",
          request.message_overhead_seconds);
  request.layout =
      schedule::Layout::named(*flags.layout, *flags.seq_len, ranks);
  return request;
}

void save(const std::string& path, const planner::PlanFile& plan) {
  write_file(path, planner::to_json(plan).dump(2) + "\n", "[plan]");
  fmt::print(stderr, "wrote {}\n", path);
}

void report(const PlanFlags& flags, const planner::PlanRequest& request,
            const planner::Planned& planned) {
  const PlanReport report{request, *flags.layout, planned};
  fmt::print("{}", flags.json ? to_json(report).dump() + "\n" : table(report));
  if (!flags.save.empty()) {
    save(flags.save, planner::plan_file(request, *flags.layout, planned));
  }
}

/// Planning is checking: what does not fit is an error before any work.
void prepare(PlanFlags flags, Context& context) {
  planner::PlanRequest request = request_of(flags);
  if (context.leads() && !flags.save.empty()) {
    check_writable(flags.save, "--save", "[plan]");
  }
  if (flags.synthesise || planner::worth_searching(request.machine)) {
    request.searched = planner::searched_strategies(request.machine);
  }
  const planner::Planned planned = planner::make_plan(request);
  context.job = [flags, request, planned, &context] {
    if (context.leads()) report(flags, request, planned);
  };
}

void add_model_options(CLI::App& command, PlanFlags& flags) {
  command
      .add_option("--model", flags.model,
                  "A config of train, or its model object; flags override "
                  "what it says")
      ->type_name("CONFIG");
  const auto number = [&](const char* flag, auto& value, const char* text) {
    command.add_option(flag, value, text)->type_name("N");
  };
  number("--heads", flags.heads, "Query heads");
  number("--kv-heads", flags.kv_heads,
         "Heads of keys and values; default: all");
  number("--head-dim", flags.head_dim, "Numbers per head and token");
  number("--layers", flags.layers, "Layers");
  number("--batch", flags.batch, "Sequences per step");
  command
      .add_option(
          "--pattern", flags.pattern,
          "Letters L (linear) and N (softmax), repeated over the layers")
      ->type_name("LETTERS");
  command.add_option("--linear", flags.linear, "Kind of linear layers")
      ->check(one_of(config::linear_family_names()))
      ->type_name("KIND");
  command.add_option("--compute", flags.compute, "Type of keys and values")
      ->check(one_of(model_type_names()))
      ->type_name("TYPE");
}

void add_request_options(CLI::App& command, PlanFlags& flags) {
  command
      .add_option("--topology", flags.topology,
                  "A topology file, or a name such as mesh:ranks=8 (--model "
                  "may name it)")
      ->type_name("NAME|FILE");
  command.add_option("--ranks", flags.ranks, "Must be the topology's")
      ->type_name("N");
  add_model_options(command, flags);
  command
      .add_option("--seq-len", flags.seq_len,
                  "Tokens per sequence (--model may tell)")
      ->type_name("N");
  command.add_option("--layout", flags.layout, "contiguous, zigzag or striped")
      ->check(one_of(schedule::Layout::names()))
      ->type_name("NAME")
      ->default_str(kLayout);
  command.add_option("--mask", flags.mask, kMaskHelp)
      ->type_name("MASK")
      ->default_str("causal; the widest sliding window of --model");
  command
      .add_option(
          "--device-table", flags.device_table,
          "How long computing takes: a measured table, or a name such as "
          "h100:efficiency=0.6")
      ->type_name("NAME|FILE")
      ->default_str(kDeviceTable);
  command
      .add_option("--memory-limit", flags.memory_limit,
                  "Bytes of a rank for keys, values, states and buffers")
      ->type_name("BYTES");
  command
      .add_option("--message-overhead", flags.message_overhead,
                  "Seconds of a rank's time per message that it sends")
      ->type_name("SECONDS")
      ->default_str("0");
  command.add_flag("--synthesise", flags.synthesise,
                   "Search for rings and trees in the topology too (done "
                   "unasked where it is irregular and small)");
}

}  // namespace

void add_plan(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "plan", "Predict every strategy on a topology, and pick the fastest");
  auto flags = std::make_shared<PlanFlags>();
  add_request_options(*command, *flags);
  command->add_option("--save", flags->save, "Write the plan, for --plan")
      ->type_name("FILE");
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->callback([flags, &context] { prepare(*flags, context); });
}

}  // namespace ringweave::cli
