#include "ringweave/cli/simulate_input.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/mask_option.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/planner/search/searched.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

using topology::Topology;

void check(const SimulateOptions& options) {
  const int sources = (options.plan.empty() ? 0 : 1) +
                      (options.strategy.empty() ? 0 : 1) +
                      (options.schedules.empty() ? 0 : 1);
  require(sources == 1,
          "{} got {} of --strategy, --schedule and --plan; want one",
          kSimulateWhere, sources);
  require(!options.topology.empty() || !options.plan.empty(),
          "{} got neither --topology nor --plan; want one of them",
          kSimulateWhere);
  require(options.save_prefix.empty() || options.schedules.empty(),
          "{} got --save-schedules and --schedule; want one of them",
          kSimulateWhere);
  require(!options.transfers_only ||
              (!options.schedules.empty() && options.no_compute),
          "{} got --transfers-only without {}; want both", kSimulateWhere,
          options.schedules.empty() ? "--schedule" : "--no-compute");
  const int computes = (options.device_table.empty() ? 0 : 1) +
                       (options.flops ? 1 : 0) + (options.no_compute ? 1 : 0);
  require(computes == 1,
          "{} got {} of --device-table, --flops and --no-compute; want one",
          kSimulateWhere, computes);
  constexpr double kMaxFlops = 1e30;
  require(
      !options.flops || (*options.flops >= 1 && *options.flops <= kMaxFlops),
      "{} got --flops {}; want 1 … {}", kSimulateWhere,
      options.flops.value_or(0), kMaxFlops);
  require(!options.forward_only || !options.backward_only,
          "{} got --forward-only and --backward; want one of them",
          kSimulateWhere);
  require(options.schedules.empty() ||
              (!options.forward_only && !options.backward_only),
          "{} got --schedule and {}; want one of them, since a schedule's file "
          "says which pass it is of",
          kSimulateWhere,
          options.forward_only ? "--forward-only" : "--backward");
  const Disturbances& disturbances = options.disturbances;
  require(disturbances.jitter > 0 || !disturbances.seed,
          "{} got --seed without --jitter; want both", kSimulateWhere);
  require(!options.no_compute ||
              (disturbances.jitter == 0 && disturbances.stragglers.empty()),
          "{} got --no-compute and {}; want one of them", kSimulateWhere,
          disturbances.jitter > 0 ? "--jitter" : "--straggler");
}

using Plan = std::optional<planner::PlanFile>;

Plan plan_of(const SimulateOptions& options) {
  if (options.plan.empty()) return std::nullopt;
  planner::PlanFile plan = planner::read_plan_file(options.plan);
  require(plan.softmax.has_value(), "{} got {}, a plan without softmax layers",
          kSimulateWhere, options.plan);
  return plan;
}

Topology topology_of(const SimulateOptions& options, const Plan& plan) {
  if (!plan) return topology::load_topology(options.topology);
  const std::string& name =
      options.topology.empty() ? plan->topology_name : options.topology;
  const planner::Machine machine = planner::load_machine(name);
  planner::check_fits(*plan, options.plan, machine);
  // Plans for large fabrics do without their links, which are simulated here.
  return machine.topology ? *machine.topology : topology::load_topology(name);
}

planner::ModelShape shape_of(const SimulateOptions& options, const Plan& plan,
                             std::int64_t seq_len) {
  planner::ModelShape shape = {.heads = AttentionDefaults::kHeads,
                               .kv_heads = 0,
                               .head_dim = AttentionDefaults::kHeadDim};
  if (plan) shape = plan->model;
  shape.batch = options.batch.value_or(shape.batch);
  shape.heads = options.heads.value_or(shape.heads);
  shape.kv_heads = options.kv_heads.value_or(shape.kv_heads);
  if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
  shape.head_dim = options.head_dim.value_or(shape.head_dim);
  if (!options.dtype.empty()) {
    shape.type = element_type_from_name(options.dtype);
  }
  planner::check(shape, "simulate", seq_len);
  return shape;
}

std::string layout_of(const SimulateOptions& options, const Plan& plan) {
  if (!options.layout.empty()) return options.layout;
  return plan ? plan->layout : AttentionDefaults::kLayout;
}

schedule::Mask mask_of(const SimulateOptions& options, const Plan& plan) {
  if (options.mask.empty() && plan) return plan->mask;
  return mask_from_option(
      options.mask.empty() ? AttentionDefaults::kMask : options.mask,
      kSimulateWhere);
}

/// A schedule file, if it does the demand's work on the topology's ranks, or
/// with `transfers_only` at least can be played.
schedule::Schedule load_schedule(const std::string& path,
                                 const schedule::AttentionDemand& demand,
                                 const Topology& topology,
                                 bool transfers_only) {
  schedule::Schedule schedule =
      schedule::schedule_from_json(read_json_file(path), path);
  require(schedule.ranks == topology.ranks(),
          "{} got {} for {} ranks; {} has {}", kSimulateWhere, path,
          schedule.ranks, topology.name(), topology.ranks());
  for (const schedule::Transfer& transfer : schedule.transfers) {
    require(transfer.payload == schedule::Payload::kv ||
                transfer.payload == schedule::Payload::kv_grad,
            "{} got {} with a transfer of {}; want {} and {} alone",
            kSimulateWhere, path, schedule::name(transfer.payload),
            schedule::name(schedule::Payload::kv),
            schedule::name(schedule::Payload::kv_grad));
  }
  const int strands = schedule::strand_count(schedule);
  for (const schedule::Block& block : schedule.blocks) {
    const auto [owner, strand, part] = block.id;
    const std::int64_t size =
        part < demand.parts(owner) ? demand.size(block.id, strands) : 0;
    require(block.size == size,
            "{} got {} with {} tokens in part {} of strand {} of rank {}; "
            "{} tokens in this layout have {} there",
            kSimulateWhere, path, block.size, part, strand, owner,
            demand.kv_layout().tokens(), size);
  }
  try {
    (transfers_only ? schedule::validate_form : schedule::validate)(
        schedule, demand, strands);
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(
        fmt::format("{} got {}: {}", kSimulateWhere, path, error.what()));
  }
  return schedule;
}

using PassInput = SimulateInput::Pass;

std::vector<PassInput> passes_of_files(const SimulateOptions& options,
                                       const schedule::AttentionDemand& demand,
                                       const Topology& topology) {
  std::vector<PassInput> passes;
  for (const std::string& path : options.schedules) {
    schedule::Schedule schedule =
        load_schedule(path, demand, topology, options.transfers_only);
    const int strands = schedule::strand_count(schedule);
    passes.push_back({std::move(schedule), strands});
  }
  return passes;
}

std::vector<PassInput> passes_of(const schedule::Strategy& strategy,
                                 const schedule::AttentionDemand& demand,
                                 const SimulateOptions& options) {
  std::vector<PassInput> passes;
  const int strands = schedule::strand_count(strategy, demand.ranks());
  for (const schedule::Pass pass : chosen_passes(options)) {
    passes.push_back(
        {schedule::whole(strategy, demand, pass, !options.forward_only),
         strands});
  }
  return passes;
}

}  // namespace

std::vector<schedule::Pass> chosen_passes(const SimulateOptions& options) {
  std::vector<schedule::Pass> passes;
  if (!options.backward_only) passes.push_back(schedule::Pass::forward);
  if (!options.forward_only) passes.push_back(schedule::Pass::backward);
  return passes;
}

SimulateInput simulate_input(const SimulateOptions& options) {
  check(options);
  const Plan plan = plan_of(options);
  Topology topology = topology_of(options, plan);
  const std::int64_t seq_len = options.seq_len.value_or(
      plan ? plan->seq_len : AttentionDefaults::kSeqLen);
  require(seq_len >= 1, "{} got --seq-len {}; want at least 1", kSimulateWhere,
          seq_len);
  const planner::ModelShape shape = shape_of(options, plan, seq_len);
  const std::string layout_name = layout_of(options, plan);
  const schedule::Mask mask = mask_of(options, plan);
  if (plan) {
    planner::check_fits(*plan, options.plan, topology.ranks(), shape, seq_len,
                        layout_name, mask);
  }
  std::optional<planner::DeviceTable> device_table;
  if (!options.device_table.empty()) {
    device_table = planner::load_device_table(options.device_table);
    planner::check_dtype(*device_table, shape.type);
  }
  if (options.flops) device_table.emplace().flops_per_second = *options.flops;
  const auto layout =
      schedule::Layout::named(layout_name, seq_len, topology.ranks());
  schedule::AttentionDemand demand(layout, layout, mask);
  std::vector<PassInput> passes;
  std::string name = options.strategy;
  if (!options.schedules.empty()) {
    passes = passes_of_files(options, demand, topology);
  } else if (plan) {
    name = plan->softmax->name;
    passes = passes_of(*plan->softmax->strategy, demand, options);
  } else {
    passes = passes_of(planner::strategy_on(topology, name), demand, options);
  }
  sim::SimulationOptions disturbed =
      simulation_options(options.disturbances, topology);
  disturbed.link_rates = !options.trace.empty();
  disturbed.poll = check_interrupted;
  return {.topology = std::move(topology),
          .strategy = std::move(name),
          .shape = shape,
          .layout = layout_name,
          .demand = std::move(demand),
          .passes = std::move(passes),
          .device_table = std::move(device_table),
          .options = std::move(disturbed)};
}

}  // namespace ringweave::cli
