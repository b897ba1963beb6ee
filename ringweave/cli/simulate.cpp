// ringweave simulate: how long a schedule takes on a topology.
#include "ringweave/sim/simulate.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/mask_option.h"
#include "ringweave/cli/output_file.h"
#include "ringweave/cli/schedule_files.h"
#include "ringweave/cli/simulate_input.h"
#include "ringweave/cli/simulate_report.h"
#include "ringweave/planner/cost/attention_work.h"
#include "ringweave/planner/demand_bytes.h"
#include "ringweave/sim/trace.h"

namespace ringweave::cli {
namespace {

/// Of keys and values, or in backward of their gradients.
double transfer_bound(const SimulateInput& input, schedule::Pass pass) {
  const bool forward = pass == schedule::Pass::forward;
  const planner::ModelShape& shape = input.shape;
  return planner::transfer_bound(
             input.topology, input.demand, pass,
             static_cast<double>(forward ? shape.kv_token_bytes()
                                         : shape.grad_token_bytes()))
      .seconds;
}

planner::Workload workload_of(const SimulateInput& input,
                              const SimulateInput::Pass& pass,
                              double message_overhead) {
  planner::Workload workload = planner::attention_workload(
      input.demand, pass.strands, input.shape,
      input.device_table.value_or(planner::DeviceTable{}), pass.schedule.pass,
      message_overhead);
  if (!input.device_table) workload.tile_work = {};
  return workload;
}

/// Before any work.
void check_files(const SimulateOptions& options) {
  if (!options.trace.empty())
    check_writable(options.trace, "--trace", kSimulateWhere);
  if (options.save_prefix.empty()) return;
  check_schedules_writable(chosen_passes(options), options.save_prefix,
                           kSimulateWhere);
}

void write_files(const SimulateOptions& options, const SimulateInput& input,
                 const std::vector<sim::Timeline>& timelines) {
  if (!options.trace.empty()) {
    write_file(options.trace, sim::chrome_trace(timelines, input.topology),
               kSimulateWhere);
  }
  if (options.save_prefix.empty()) return;
  for (const SimulateInput::Pass& pass : input.passes) {
    save_schedule(pass.schedule, options.save_prefix, kSimulateWhere);
  }
}

void print_passes(const SimulateInput& input, Json passes, bool json) {
  const std::int64_t seq_len = input.demand.kv_layout().tokens();
  if (json) {
    fmt::print("{}\n", Json{{"topology", input.topology.name()},
                            {"ranks", input.topology.ranks()},
                            {"strategy", input.strategy},
                            {"seq_len", seq_len},
                            {"passes", std::move(passes)}}
                           .dump());
    return;
  }
  fmt::print("{} on {}: {} ranks, {} x {} tokens, {}, {}\n",
             input.strategy.empty() ? "schedule" : input.strategy,
             input.topology.name(), input.topology.ranks(), input.shape.batch,
             seq_len, input.layout, input.demand.mask().text());
  for (const Json& pass : passes) fmt::print("{}", pass_text(pass));
}

/// So that a script can tell: the result was printed, and is not a time.
void check_ends(const std::vector<sim::Timeline>& timelines) {
  for (const sim::Timeline& timeline : timelines) {
    if (timeline.complete()) continue;
    throw NoSolution(
        fmt::format("{} the {} pass never ends: {} of {} ranks wait for ever",
                    kSimulateWhere, schedule::name(timeline.pass),
                    timeline.stuck.size(), timeline.ranks.size()));
  }
}

void run(const SimulateOptions& options, const SimulateInput& input,
         bool prints) {
  std::vector<sim::Timeline> timelines;
  Json passes = Json::array();
  for (const SimulateInput::Pass& pass : input.passes) {
    timelines.push_back(sim::simulate(
        pass.schedule, input.topology,
        workload_of(input, pass, options.message_overhead), input.options));
    check_interrupted();
    passes.push_back(to_json(timelines.back(), input.topology,
                             pass.schedule.pass,
                             transfer_bound(input, pass.schedule.pass)));
  }
  if (prints) {
    write_files(options, input, timelines);
    print_passes(input, std::move(passes), options.json);
  }
  check_ends(timelines);
}

void add_sources(CLI::App& command, SimulateOptions& options) {
  command.add_option("--topology", options.topology,
                     "Built-in name (`ringweave topology list`) or file; "
                     "default: the plan's");
  command.add_option("--strategy", options.strategy,
                     "How blocks travel, such as multi_ring; rings and "
                     "synthesised are searched for in the topology");
  command
      .add_option("--schedule", options.schedules,
                  "Schedule files instead, simulated one after another")
      ->delimiter(',')
      ->type_name("FILE,...");
  command.add_flag("--transfers-only", options.transfers_only,
                   "With --schedule and --no-compute: simulate transfers that "
                   "need not amount to attention");
  command
      .add_option("--plan", options.plan,
                  "Strategy, attention and topology of a file of `ringweave "
                  "plan --save` instead")
      ->type_name("FILE");
}

void add_shape(CLI::App& command, SimulateOptions& options) {
  using Defaults = AttentionDefaults;
  const auto add = [&](const char* flag, std::optional<std::int64_t>& value,
                       const char* text, std::int64_t fallback) {
    command.add_option(flag, value, text)
        ->type_name("N")
        ->default_str(std::to_string(fallback));
  };
  const planner::ModelShape shape;
  add("--seq-len", options.seq_len, "Tokens of each whole sequence",
      Defaults::kSeqLen);
  add("--batch", options.batch, "Sequences", shape.batch);
  add("--heads", options.heads, "Query heads", Defaults::kHeads);
  add("--kv-heads", options.kv_heads, "Key and value heads; 0: as many", 0);
  add("--head-dim", options.head_dim, "Numbers per head and token",
      Defaults::kHeadDim);
  const auto name = [&](const char* flag, std::string& value, const char* text,
                        const std::string& fallback) {
    return command.add_option(flag, value, text)
        ->type_name("NAME")
        ->default_str(fallback);
  };
  name("--dtype", options.dtype, "float64, float32, bfloat16 or float16",
       ringweave::name(shape.type))
      ->check(one_of(element_type_names()));
  name("--layout", options.layout, "contiguous, zigzag or striped",
       Defaults::kLayout)
      ->check(one_of(schedule::Layout::names()));
  name("--mask", options.mask, kMaskHelp, Defaults::kMask)->type_name("MASK");
}

void add_compute(CLI::App& command, SimulateOptions& options) {
  command
      .add_option(
          "--device-table", options.device_table,
          "How long computing takes: a measured table, or a name such as "
          "h100:efficiency=0.6. One of --device-table, --flops and "
          "--no-compute is needed")
      ->type_name("NAME|FILE");
  command
      .add_option("--flops", options.flops,
                  "Or the floating-point operations per second of a rank's "
                  "attention, such as 4e14")
      ->type_name("FLOPS");
  command.add_flag("--no-compute", options.no_compute,
                   "Or transfers alone: compute takes no time");
  command
      .add_option("--message-overhead", options.message_overhead,
                  "Seconds of the sender's time per message")
      ->type_name("SECONDS")
      ->capture_default_str();
}

void add_disturbances(CLI::App& command, Disturbances& options) {
  command.add_option("--jitter", options.jitter,
                     "Tiles take 1 - X to 1 + X times their time, at random; "
                     "0 <= X < 1, such as 0.1 for 10 %");
  command.add_option("--seed", options.seed, "Of the jitter");
  command.add_option("--straggler", options.stragglers,
                     "RANK=FACTOR: its tiles take FACTOR times as long");
  command.add_option("--slow-link", options.slow_links,
                     "A,B=FACTOR: the link has FACTOR times its rate; A and B "
                     "are names or numbers of vertices");
  command.add_option("--fail-link", options.fail_links,
                     "A,B@SECONDS: the link carries nothing from then on, "
                     "counted from the start of each pass");
}

void add_output(CLI::App& command, SimulateOptions& options) {
  command.add_option("--trace", options.trace,
                     "Write a trace for ui.perfetto.dev to this file");
  command
      .add_option("--save-schedules", options.save_prefix, kSaveSchedulesHelp)
      ->type_name("PREFIX");
  command.add_flag("--json", options.json, "Print one JSON object");
}

}  // namespace

void add_simulate(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "simulate", "Run a schedule on a topology that need not exist");
  auto options = std::make_shared<SimulateOptions>();
  add_sources(*command, *options);
  add_shape(*command, *options);
  command->add_flag("--backward", options->backward_only,
                    "Only the backward pass");
  command->add_flag("--forward-only", options->forward_only,
                    "Only the forward pass");
  add_compute(*command, *options);
  add_disturbances(*command, options->disturbances);
  add_output(*command, *options);
  command->callback([&context, options] {
    if (context.leads()) check_files(*options);
    const auto input =
        std::make_shared<const SimulateInput>(simulate_input(*options));
    context.job = [&context, options, input] {
      run(*options, *input, context.leads());
    };
  });
}

}  // namespace ringweave::cli
