// ringweave simulate: how long a schedule takes on a topology.
#include "ringweave/sim/simulate.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/command.h"
#include "ringweave/plan/strategy.h"
#include "ringweave/sim/trace.h"
#include "ringweave/topology/lower_bound.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

using topology::Topology;

constexpr const char* kWhere = "[simulate]";
/// Links that are listed by name.
constexpr std::size_t kBusiest = 5;

struct SimulateOptions {
  std::string topology;
  std::string strategy;
  std::vector<std::string> schedules;
  std::int64_t tokens = 65536;
  std::int64_t batch = 1;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 128;
  std::string dtype = "bfloat16";
  std::string layout = "zigzag";
  std::string mask = "causal";
  bool backward_only = false;
  bool forward_only = false;
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

std::int64_t element_bytes(const std::string& dtype) {
  const std::map<std::string, std::int64_t> sizes = {
      {"float64", 8}, {"float32", 4}, {"bfloat16", 2}};
  const auto found = sizes.find(dtype);
  require(found != sizes.end(),
          "{} got --dtype {}; want float64, float32 or bfloat16", kWhere,
          dtype);
  return found->second;
}

/// Keys and values of a token, and their gradients, which travel in fp32 or
/// better.
plan::UnitBytes unit_bytes(const SimulateOptions& options) {
  const std::int64_t bytes = element_bytes(options.dtype);
  const std::int64_t numbers =
      2 * options.batch * options.kv_heads * options.head_dim;
  return {{plan::Payload::kv, numbers * bytes},
          {plan::Payload::kv_grad, numbers * std::max<std::int64_t>(bytes, 4)}};
}

/// Seconds of tiles: 4 floating-point operations per visible pair, head and
/// element forward, 10 backward. A strand has its share of its part's pairs.
class TileSeconds {
 public:
  TileSeconds(const SimulateOptions& options,
              const plan::AttentionDemand& demand,
              const plan::Schedule& schedule)
      : demand_(demand), schedule_(schedule) {
    const double operations = schedule.pass == plan::Pass::forward ? 4 : 10;
    seconds_per_pair_ = operations * static_cast<double>(options.batch) *
                        static_cast<double>(options.heads) *
                        static_cast<double>(options.head_dim) /
                        options.flops.value();
  }

  double operator()(const plan::Tile& tile) {
    const plan::Layout& keys = demand_.kv_layout();
    const auto [owner, strand, part] = tile.block;
    require(part < keys.parts(owner),
            "{} got a schedule with part {} of a block of rank {}; the layout "
            "has {} parts",
            kWhere, part, owner, keys.parts(owner));
    const plan::Run& run = keys.runs(owner)[part];
    if (run.length == 0) return 0;
    return seconds_per_pair_ * pairs(tile.rank, owner, part) *
           static_cast<double>(plan::block_size(schedule_, tile.block)) /
           static_cast<double>(run.length);
  }

 private:
  double pairs(Rank rank, Rank owner, int part) {
    const auto [found, is_new] = pairs_.try_emplace({rank, owner, part}, 0);
    if (is_new) {
      for (const plan::Run& queries : demand_.q_layout().runs(rank)) {
        found->second += static_cast<double>(
            demand_.mask().area(queries, demand_.kv_layout().runs(owner)[part],
                                demand_.kv_layout().tokens()));
      }
    }
    return found->second;
  }

  const plan::AttentionDemand& demand_;
  const plan::Schedule& schedule_;
  double seconds_per_pair_ = 0;
  std::map<std::tuple<Rank, Rank, int>, double> pairs_;
};

/// Everything up to the simulation.
struct Prepared {
  SimulateOptions options;
  Topology topology;
  plan::AttentionDemand demand;
  std::vector<plan::Schedule> schedules;
  sim::SimulationOptions disturbances;
};

void check(const SimulateOptions& options) {
  const auto positive = [](const char* flag, std::int64_t value) {
    require(value >= 1, "{} got {} {}; want at least 1", kWhere, flag, value);
  };
  positive("--tokens", options.tokens);
  positive("--batch", options.batch);
  positive("--heads", options.heads);
  positive("--kv-heads", options.kv_heads);
  positive("--head-dim", options.head_dim);
  require(options.heads % options.kv_heads == 0,
          "{} got {} heads and {} kv-heads; want a multiple", kWhere,
          options.heads, options.kv_heads);
  require(options.strategy.empty() != options.schedules.empty(),
          "{} got {} --strategy and --schedule; want one of them", kWhere,
          options.strategy.empty() ? "neither" : "both");
  require(options.flops.has_value() != options.no_compute,
          "{} got {} --flops and --no-compute; want one of them", kWhere,
          options.no_compute ? "both" : "neither");
  require(
      !options.flops || (std::isfinite(*options.flops) && *options.flops > 0),
      "{} got --flops {}; want a positive number", kWhere,
      options.flops.value_or(0));
  require(!options.forward_only || !options.backward_only,
          "{} got --forward-only and --backward; want one of them", kWhere);
  require(options.mask == "causal" || options.mask == "full",
          "{} got --mask {}; want causal or full", kWhere, options.mask);
}

std::vector<plan::Schedule> schedules_of(const SimulateOptions& options,
                                         const plan::AttentionDemand& demand,
                                         const Topology& topology) {
  std::vector<plan::Schedule> schedules;
  for (const std::string& path : options.schedules) {
    schedules.push_back(plan::schedule_from_json(read_json_file(path), path));
    require(schedules.back().ranks == topology.ranks(),
            "{} got {} for {} ranks; {} has {}", kWhere, path,
            schedules.back().ranks, topology.name(), topology.ranks());
  }
  if (!schedules.empty()) return schedules;
  const plan::Strategy strategy = plan::strategy_from_name(options.strategy);
  for (const plan::Pass pass : {plan::Pass::forward, plan::Pass::backward}) {
    const bool forward = pass == plan::Pass::forward;
    if (forward ? options.backward_only : options.forward_only) continue;
    schedules.push_back(plan::whole(strategy, demand, pass));
  }
  return schedules;
}

Prepared prepare(SimulateOptions options) {
  if (options.kv_heads == 0) options.kv_heads = options.heads;
  check(options);
  element_bytes(options.dtype);
  Topology topology = topology::load_topology(options.topology);
  const auto layout =
      plan::Layout::named(options.layout, options.tokens, topology.ranks());
  plan::AttentionDemand demand(
      layout, layout,
      options.mask == "full" ? plan::Mask::full() : plan::Mask::causal());
  auto schedules = schedules_of(options, demand, topology);
  auto disturbed = disturbances(options, topology);
  return {std::move(options), std::move(topology), std::move(demand),
          std::move(schedules), std::move(disturbed)};
}

/// The least time in which the keys and values can travel. Gradients have no
/// bound yet.
std::optional<double> transfer_bound(const Prepared& prepared,
                                     const plan::Schedule& schedule) {
  if (schedule.pass != plan::Pass::forward) return std::nullopt;
  const int ranks = prepared.topology.ranks();
  const double unit =
      static_cast<double>(unit_bytes(prepared.options).at(plan::Payload::kv));
  topology::DemandBytes bytes(ranks, std::vector<double>(ranks, 0));
  for (Rank to = 0; to < ranks; ++to) {
    for (Rank from = 0; from < ranks; ++from) {
      for (int part = 0; part < prepared.demand.parts(from); ++part) {
        const plan::BlockId block{from, 0, part};
        if (to == from || !prepared.demand.needs(to, block, 1)) continue;
        bytes[to][from] +=
            unit * static_cast<double>(prepared.demand.size(block, 1));
      }
    }
  }
  return topology::lower_bound(prepared.topology, bytes).seconds;
}

Json time_or_null(double seconds) {
  return std::isfinite(seconds) ? Json(seconds) : Json(nullptr);
}

Json report(const Prepared& prepared, const plan::Schedule& schedule,
            const sim::Timeline& timeline) {
  const auto bound = transfer_bound(prepared, schedule);
  double compute = 0;
  for (const sim::RankTimes& rank : timeline.ranks) {
    compute = std::max(compute, rank.compute_seconds);
  }
  Json classes = Json::array();
  for (const auto& use :
       sim::link_class_use(timeline.links, prepared.topology)) {
    classes.push_back({{"class", use.link_class},
                       {"links", use.links},
                       {"bytes", use.bytes},
                       {"busiest_bytes", use.busiest_bytes},
                       {"utilisation", use.utilisation},
                       {"busiest_utilisation", use.busiest_utilisation}});
  }
  auto links = timeline.links;
  std::ranges::stable_sort(links, std::ranges::greater(),
                           &sim::LinkUse::busy_seconds);
  links.resize(std::min(links.size(), kBusiest));
  Json busiest = Json::array();
  for (const sim::LinkUse& use : links) {
    const topology::Link& link = prepared.topology.links()[use.link];
    busiest.push_back({{"from", prepared.topology.vertex(link.from).name},
                       {"to", prepared.topology.vertex(link.to).name},
                       {"messages", use.messages},
                       {"bytes", use.bytes},
                       {"busy_seconds", use.busy_seconds},
                       {"utilisation", use.utilisation}});
  }
  Json stuck = Json::array();
  for (const sim::Stuck& one : timeline.stuck) stuck.push_back(one.text);
  const bool complete = timeline.complete();
  return {{"pass", plan::name(schedule.pass)},
          {"seconds", time_or_null(timeline.seconds)},
          {"transfer_bound_seconds", bound ? Json(*bound) : Json(nullptr)},
          {"ratio", bound && *bound > 0 && complete
                        ? Json(timeline.seconds / std::max(*bound, compute))
                        : Json(nullptr)},
          {"compute_seconds", compute},
          {"exposed_seconds", timeline.exposed_seconds()},
          {"messages", timeline.messages.size()},
          {"link_classes", std::move(classes)},
          {"busiest_links", std::move(busiest)},
          {"stuck", std::move(stuck)}};
}

std::string text_of(const Json& pass) {
  std::string text = fmt::format("\n{}: ", pass["pass"].get<std::string>());
  if (pass["seconds"].is_null()) {
    text += "never ends\n";
    for (const auto& line : pass["stuck"]) {
      text += fmt::format("  {}\n", line.get<std::string>());
    }
  } else {
    text += fmt::format("{:.6g} s\n", pass["seconds"].get<double>());
  }
  if (!pass["transfer_bound_seconds"].is_null()) {
    text += fmt::format("  bound of transfers    {:.6g} s\n",
                        pass["transfer_bound_seconds"].get<double>());
  }
  text += fmt::format("  compute, busiest rank {:.6g} s\n",
                      pass["compute_seconds"].get<double>());
  if (!pass["ratio"].is_null()) {
    text += fmt::format("  time / larger of both {:.4f}\n",
                        pass["ratio"].get<double>());
  }
  text += fmt::format("  exposed communication {:.6g} s, mean of the ranks\n",
                      pass["exposed_seconds"].get<double>());
  for (const Json& use : pass["link_classes"]) {
    text += fmt::format(
        "  {} links of class {}: {} bytes, {} on the busiest; used {:.1f} %, "
        "the busiest {:.1f} %\n",
        use["links"].get<int>(), use["class"].get<std::string>(),
        use["bytes"].get<std::int64_t>(),
        use["busiest_bytes"].get<std::int64_t>(),
        100 * use["utilisation"].get<double>(),
        100 * use["busiest_utilisation"].get<double>());
  }
  text += "  busiest links:\n";
  for (const Json& use : pass["busiest_links"]) {
    text += fmt::format(
        "    {} -> {}: {} bytes, busy {:.6g} s\n",
        use["from"].get<std::string>(), use["to"].get<std::string>(),
        use["bytes"].get<std::int64_t>(), use["busy_seconds"].get<double>());
  }
  return text;
}

void write_trace(const std::string& path, const std::string& trace) {
  std::ofstream file(path, std::ios::binary);
  file << trace;
  file.close();
  require(bool(file), "{} could not write --trace {}", kWhere, path);
}

void run(const Prepared& prepared, bool prints) {
  const SimulateOptions& options = prepared.options;
  std::vector<sim::Timeline> timelines;
  Json passes = Json::array();
  for (const plan::Schedule& schedule : prepared.schedules) {
    plan::Workload workload{
        .unit_bytes = unit_bytes(options),
        .message_overhead_seconds = options.message_overhead};
    if (options.flops) {
      workload.tile_seconds = TileSeconds(options, prepared.demand, schedule);
    }
    timelines.push_back(sim::simulate(schedule, prepared.topology, workload,
                                      prepared.disturbances));
    passes.push_back(report(prepared, schedule, timelines.back()));
  }
  if (!prints) return;
  if (!options.trace.empty()) {
    write_trace(options.trace, sim::chrome_trace(timelines, prepared.topology));
  }
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
             prepared.topology.name(), prepared.topology.ranks(), options.batch,
             options.tokens, options.layout, options.mask);
  for (const Json& pass : passes) fmt::print("{}", text_of(pass));
}

void add_shape(CLI::App& command, SimulateOptions& options) {
  const auto add = [&](const char* flag, std::int64_t& value,
                       const char* text) {
    command.add_option(flag, value, text)
        ->type_name("N")
        ->capture_default_str();
  };
  add("--tokens", options.tokens, "Tokens of the whole sequence");
  add("--batch", options.batch, "Sequences");
  add("--heads", options.heads, "Query heads");
  add("--kv-heads", options.kv_heads, "Key and value heads; 0: as many");
  add("--head-dim", options.head_dim, "Numbers per head and token");
  command.add_option("--dtype", options.dtype, "float64, float32 or bfloat16")
      ->capture_default_str();
  command
      .add_option("--layout", options.layout, "contiguous, zigzag or striped")
      ->capture_default_str();
  command.add_option("--mask", options.mask, "causal or full")
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
                      "How blocks travel, such as multi_ring");
  command
      ->add_option("--schedule", options->schedules,
                   "Schedule files instead, simulated one after another")
      ->delimiter(',');
  add_shape(*command, *options);
  command->add_flag("--backward", options->backward_only,
                    "Only the backward pass");
  command->add_flag("--forward-only", options->forward_only,
                    "Only the forward pass");
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
