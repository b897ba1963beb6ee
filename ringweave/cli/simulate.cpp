// ringweave simulate: how long a schedule takes on a topology.
#include "ringweave/sim/simulate.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/simulate_report.h"
#include "ringweave/plan/attention_work.h"
#include "ringweave/plan/demand_bytes.h"
#include "ringweave/plan/searched.h"
#include "ringweave/plan/strategy.h"
#include "ringweave/sim/trace.h"
#include "ringweave/topology/lower_bound.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

using topology::Topology;

constexpr const char* kWhere = "[simulate]";

struct SimulateOptions {
  std::string topology;
  std::string strategy;
  std::vector<std::string> schedules;
  std::int64_t tokens = 65536;
  plan::ModelShape shape = {.heads = 32, .kv_heads = 0, .head_dim = 128};
  std::string layout = "zigzag";
  std::string mask = "causal";
  bool backward_only = false;
  bool forward_only = false;
  std::string device;
  std::optional<double> flops;
  bool no_compute = false;
  double message_overhead = 0;
  double jitter = 0;
  std::uint64_t seed = 0;
  std::vector<std::string> stragglers;
  std::vector<std::string> slow_links;
  std::vector<std::string> fail_links;
  std::string trace;
  bool json = false;
};

/// What "A,B=X" and the like are cut into.
std::pair<std::string, std::string> cut_at(const std::string& text, char mark,
                                           const char* flag,
                                           const char* wanted) {
  const std::size_t at = text.rfind(mark);
  require(at != std::string::npos && at > 0 && at + 1 < text.size(),
          "{} got {} {}; want {}", kWhere, flag, text, wanted);
  return {text.substr(0, at), text.substr(at + 1)};
}

template <typename Number>
std::optional<Number> number(const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

double factor(const std::string& text, const char* flag) {
  const auto value = number<double>(text);
  require(value && std::isfinite(*value) && *value > 0,
          "{} got {} with a factor of {}; want a positive number", kWhere, flag,
          text);
  return *value;
}

/// A vertex by its name, or by its number.
int vertex(const Topology& topology, const std::string& text) {
  for (int i = 0; i < topology.vertices(); ++i) {
    if (topology.vertex(i).name == text) return i;
  }
  const auto index = number<int>(text);
  require(index && *index >= 0 && *index < topology.vertices(),
          "{} got {}; want the name of a vertex of {}, or a number 0 … {}",
          kWhere, text, topology.name(), topology.vertices() - 1);
  return *index;
}

std::pair<int, int> link(const Topology& topology, const std::string& text,
                         const char* flag) {
  const auto [from, to] = cut_at(text, ',', flag, "a link A,B");
  return {vertex(topology, from), vertex(topology, to)};
}

sim::SimulationOptions disturbances(const SimulateOptions& options,
                                    const Topology& topology) {
  sim::SimulationOptions result{.jitter = options.jitter, .seed = options.seed};
  result.link_rates = !options.trace.empty();
  for (const std::string& text : options.stragglers) {
    const auto [name, value] = cut_at(text, '=', "--straggler", "RANK=FACTOR");
    const auto rank = number<int>(name);
    require(rank.has_value(), "{} got --straggler {}; want RANK=FACTOR", kWhere,
            text);
    result.stragglers[*rank] = factor(value, "--straggler");
  }
  for (const std::string& text : options.slow_links) {
    const auto [ends, value] = cut_at(text, '=', "--slow-link", "A,B=FACTOR");
    const auto [from, to] = link(topology, ends, "--slow-link");
    result.slow_links.push_back({from, to, factor(value, "--slow-link")});
  }
  for (const std::string& text : options.fail_links) {
    const auto [ends, value] = cut_at(text, '@', "--fail-link", "A,B@SECONDS");
    const auto [from, to] = link(topology, ends, "--fail-link");
    const auto seconds = number<double>(value);
    require(seconds.has_value(), "{} got --fail-link {}; want A,B@SECONDS",
            kWhere, text);
    result.failing_links.push_back({from, to, *seconds});
  }
  return result;
}

/// Everything up to the simulation.
struct Prepared {
  SimulateOptions options;
  std::optional<plan::Device> device;  ///< none: compute takes no time
  Topology topology;
  plan::AttentionDemand demand;
  std::vector<plan::Schedule> schedules;
  sim::SimulationOptions disturbances;
};

void check(const SimulateOptions& options) {
  require(options.tokens >= 1, "{} got --tokens {}; want at least 1", kWhere,
          options.tokens);
  plan::check(options.shape, "simulate", options.tokens);
  require(options.strategy.empty() != options.schedules.empty(),
          "{} got {} --strategy and --schedule; want one of them", kWhere,
          options.strategy.empty() ? "neither" : "both");
  const int computes = (options.device.empty() ? 0 : 1) +
                       (options.flops ? 1 : 0) + (options.no_compute ? 1 : 0);
  require(computes == 1,
          "{} got {} of --device, --flops and --no-compute; want one", kWhere,
          computes);
  constexpr double kMaxFlops = 1e30;
  require(
      !options.flops || (*options.flops >= 1 && *options.flops <= kMaxFlops),
      "{} got --flops {}; want 1 … {}", kWhere, options.flops.value_or(0),
      kMaxFlops);
  require(!options.forward_only || !options.backward_only,
          "{} got --forward-only and --backward; want one of them", kWhere);
}

int strand_count(const plan::Schedule& schedule) {
  int count = 1;
  for (const plan::Block& block : schedule.blocks) {
    count = std::max(count, block.id.strand + 1);
  }
  return count;
}

/// A schedule file, if it is for the topology's ranks and the layout's blocks.
plan::Schedule load_schedule(const std::string& path,
                             const plan::AttentionDemand& demand,
                             const Topology& topology) {
  plan::Schedule schedule =
      plan::schedule_from_json(read_json_file(path), path);
  require(schedule.ranks == topology.ranks(),
          "{} got {} for {} ranks; {} has {}", kWhere, path, schedule.ranks,
          topology.name(), topology.ranks());
  const int strands = strand_count(schedule);
  for (const plan::Block& block : schedule.blocks) {
    const auto [owner, strand, part] = block.id;
    const std::int64_t size =
        part < demand.parts(owner) ? demand.size(block.id, strands) : 0;
    require(block.size == size,
            "{} got {} with {} tokens in part {} of strand {} of rank {}; "
            "{} tokens in this layout have {} there",
            kWhere, path, block.size, part, strand, owner,
            demand.kv_layout().tokens(), size);
  }
  return schedule;
}

std::vector<plan::Schedule> schedules_of(const SimulateOptions& options,
                                         const plan::AttentionDemand& demand,
                                         const Topology& topology) {
  std::vector<plan::Schedule> schedules;
  for (const std::string& path : options.schedules) {
    schedules.push_back(load_schedule(path, demand, topology));
  }
  if (!schedules.empty()) return schedules;
  const plan::Strategy strategy = plan::strategy_on(topology, options.strategy);
  for (const plan::Pass pass : {plan::Pass::forward, plan::Pass::backward}) {
    const bool forward = pass == plan::Pass::forward;
    if (forward ? options.backward_only : options.forward_only) continue;
    schedules.push_back(plan::whole(strategy, demand, pass));
  }
  return schedules;
}

Prepared prepare(SimulateOptions options) {
  if (options.shape.kv_heads == 0) {
    options.shape.kv_heads = options.shape.heads;
  }
  check(options);
  std::optional<plan::Device> device;
  if (!options.device.empty()) {
    device = plan::load_device(options.device);
    plan::check_dtype(*device, options.shape.dtype);
  }
  if (options.flops) device.emplace().flops_per_second = *options.flops;
  Topology topology = topology::load_topology(options.topology);
  const auto layout =
      plan::Layout::named(options.layout, options.tokens, topology.ranks());
  plan::AttentionDemand demand(
      layout, layout,
      options.mask == "full" ? plan::Mask::full() : plan::Mask::causal());
  auto schedules = schedules_of(options, demand, topology);
  auto disturbed = disturbances(options, topology);
  return {std::move(options), std::move(device),    std::move(topology),
          std::move(demand),  std::move(schedules), std::move(disturbed)};
}

/// Of keys and values, or in backward of their gradients.
double transfer_bound(const Prepared& prepared, plan::Pass pass) {
  const bool forward = pass == plan::Pass::forward;
  const plan::ModelShape& shape = prepared.options.shape;
  const auto bytes = plan::demand_bytes(
      prepared.demand, static_cast<double>(forward ? shape.kv_token_bytes()
                                                   : shape.grad_token_bytes()));
  return topology::lower_bound(forward
                                   ? prepared.topology
                                   : plan::reversed_topology(prepared.topology),
                               bytes)
      .seconds;
}

plan::Workload workload_of(const Prepared& prepared,
                           const plan::Schedule& schedule) {
  plan::Workload workload = plan::attention_workload(
      prepared.demand, strand_count(schedule), prepared.options.shape,
      prepared.device.value_or(plan::Device{}), schedule.pass,
      prepared.options.message_overhead);
  if (!prepared.device) workload.tile_seconds = {};
  return workload;
}

void write_trace(const std::string& path, const std::string& trace) {
  std::ofstream file(path, std::ios::binary);
  file << trace;
  file.close();
  require(bool(file), "{} could not write --trace {}", kWhere, path);
}

void print_passes(const Prepared& prepared, Json passes) {
  const SimulateOptions& options = prepared.options;
  if (options.json) {
    fmt::print("{}\n", Json{{"topology", prepared.topology.name()},
                            {"ranks", prepared.topology.ranks()},
                            {"strategy", options.strategy},
                            {"tokens", options.tokens},
                            {"passes", std::move(passes)}}
                           .dump());
    return;
  }
  fmt::print("{} on {}: {} ranks, {} x {} tokens, {}, {}\n",
             options.strategy.empty() ? "schedule" : options.strategy,
             prepared.topology.name(), prepared.topology.ranks(),
             options.shape.batch, options.tokens, options.layout, options.mask);
  for (const Json& pass : passes) fmt::print("{}", pass_text(pass));
}

/// So that a script can tell: the result was printed, and is not a time.
void check_ends(const std::vector<sim::Timeline>& timelines) {
  for (const sim::Timeline& timeline : timelines) {
    if (timeline.complete()) continue;
    throw NoSolution(
        fmt::format("{} the {} pass never ends: {} of {} ranks wait for ever",
                    kWhere, plan::name(timeline.pass), timeline.stuck.size(),
                    timeline.ranks.size()));
  }
}

void run(const Prepared& prepared, bool prints) {
  const SimulateOptions& options = prepared.options;
  std::vector<sim::Timeline> timelines;
  Json passes = Json::array();
  for (const plan::Schedule& schedule : prepared.schedules) {
    timelines.push_back(sim::simulate(schedule, prepared.topology,
                                      workload_of(prepared, schedule),
                                      prepared.disturbances));
    check_interrupted();
    passes.push_back(to_json(timelines.back(), prepared.topology, schedule.pass,
                             transfer_bound(prepared, schedule.pass)));
  }
  if (prints && !options.trace.empty()) {
    write_trace(options.trace, sim::chrome_trace(timelines, prepared.topology));
  }
  if (prints) {
    print_passes(prepared, std::move(passes));
    std::fflush(stdout);
  }
  check_ends(timelines);
}

void add_shape(CLI::App& command, SimulateOptions& options) {
  const auto add = [&](const char* flag, std::int64_t& value,
                       const char* text) {
    command.add_option(flag, value, text)
        ->type_name("N")
        ->capture_default_str();
  };
  add("--tokens", options.tokens, "Tokens of the whole sequence");
  add("--batch", options.shape.batch, "Sequences");
  add("--heads", options.shape.heads, "Query heads");
  add("--kv-heads", options.shape.kv_heads, "Key and value heads; 0: as many");
  add("--head-dim", options.shape.head_dim, "Numbers per head and token");
  command
      .add_option("--dtype", options.shape.dtype,
                  "float64, float32 or bfloat16")
      ->check(CLI::IsMember({"float64", "float32", "bfloat16"}))
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--layout", options.layout, "contiguous, zigzag or striped")
      ->check(CLI::IsMember({"contiguous", "zigzag", "striped"}))
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--mask", options.mask, "causal or full")
      ->check(CLI::IsMember({"causal", "full"}))
      ->type_name("NAME")
      ->capture_default_str();
}

void add_disturbances(CLI::App& command, SimulateOptions& options) {
  command.add_option("--jitter", options.jitter,
                     "Tiles take 1 - X to 1 + X times their time, at random");
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

}  // namespace

void add_simulate(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "simulate", "Run a schedule on a topology that need not exist");
  auto options = std::make_shared<SimulateOptions>();
  command
      ->add_option("--topology", options->topology,
                   "Built-in name (`ringweave topology list`) or file")
      ->required();
  command->add_option("--strategy", options->strategy,
                      "How blocks travel, such as multi_ring; rings and "
                      "synthesised are searched for in the topology");
  command
      ->add_option("--schedule", options->schedules,
                   "Schedule files instead, simulated one after another")
      ->delimiter(',');
  add_shape(*command, *options);
  command->add_flag("--backward", options->backward_only,
                    "Only the backward pass");
  command->add_flag("--forward-only", options->forward_only,
                    "Only the forward pass");
  command->add_option("--device", options->device,
                      "A device table, or a name such as h100:efficiency=0.6");
  command->add_option("--flops", options->flops,
                      "Floating-point operations per second of a rank's "
                      "attention");
  command->add_flag("--no-compute", options->no_compute,
                    "Transfers alone, compute takes no time");
  command->add_option("--message-overhead", options->message_overhead,
                      "Seconds of the sender's time per message");
  add_disturbances(*command, *options);
  command->add_option("--trace", options->trace,
                      "Write a trace for ui.perfetto.dev to this file");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([&context, options] {
    auto prepared = std::make_shared<Prepared>(prepare(*options));
    context.job = [&context, prepared] { run(*prepared, context.leads()); };
  });
}

}  // namespace ringweave::cli
