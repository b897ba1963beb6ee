#include "ringweave/train/parallel.h"

#include <type_traits>

#include "ringweave/base/error.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/planner/planner.h"
#include "ringweave/planner/search/searched.h"

namespace ringweave::train {
namespace {

/// What a plan at start takes without parallel.device_table.
constexpr const char* kDeviceTable = "cpu";

void take(const std::optional<planner::PlanFile::Layers>& softmax,
          const std::optional<planner::PlanFile::Layers>& linear,
          Exchanges& result) {
  if (softmax) result.softmax = *softmax->strategy;
  if (linear) {
    result.linear = schedule::state_exchange_from_name(linear->name);
  }
}

planner::Machine machine_of(const TrainConfig& config) {
  planner::Machine machine = planner::load_machine(config.parallel.topology);
  const int ranks = config.parallel.sequence_ranks();
  require(machine.ranks() == ranks,
          "[parallel.topology] got {}, which has {} ranks, for {} ranks that "
          "split a sequence; want as many",
          config.parallel.topology, machine.ranks(), ranks);
  return machine;
}

schedule::Layout layout_of(const TrainConfig& config) {
  return schedule::Layout::named(config.parallel.layout, config.data.seq_len,
                                 config.parallel.sequence_ranks());
}

Exchanges planned_by_file(const TrainConfig& config) {
  const ParallelConfig& parallel = config.parallel;
  const planner::PlanFile plan = planner::read_plan_file(parallel.plan);
  planner::check_fits(plan, parallel.plan, parallel.sequence_ranks(),
                      model_shape(config), config.data.seq_len, parallel.layout,
                      config::planned_mask(config.model));
  if (!parallel.topology.empty()) {
    planner::check_fits(plan, parallel.plan, machine_of(config));
  }
  Exchanges result;
  take(plan.softmax, plan.linear, result);
  return result;
}

bool plans_at_start(const ParallelConfig& parallel) {
  return parallel.plan.empty() &&
         (parallel.softmax == kAuto || parallel.linear == kAuto);
}

/// Nothing but a plan keeps to them: one made at start, or a file, which was
/// made with them.
void check_planning_fields(const ParallelConfig& parallel) {
  if (plans_at_start(parallel) || !parallel.plan.empty()) return;
  const auto check = [](const char* field, const auto& value) {
    require(value == std::decay_t<decltype(value)>{},
            "[parallel.{}] got {} with neither softmax nor linear \"auto\"; "
            "want one of them \"auto\", a plan, or not this field",
            field, value);
  };
  check("topology", parallel.topology);
  check("device_table", parallel.device_table);
  check("memory_limit_bytes", parallel.memory_limit_bytes);
  check("message_overhead_seconds", parallel.message_overhead_seconds);
}

/// Those that have names.
Exchanges named(const TrainConfig& config) {
  const ParallelConfig& parallel = config.parallel;
  Exchanges result;
  if (parallel.softmax != kAuto) {
    result.softmax = schedule::strategy_from_name(parallel.softmax);
    if (config.model.has_softmax()) {
      schedule::strand_count(result.softmax, parallel.sequence_ranks());
    }
  }
  if (parallel.linear != kAuto) {
    result.linear = schedule::state_exchange_from_name(parallel.linear);
    if (config.model.has_linear()) {
      result.linear->strands(parallel.sequence_ranks());
    }
  }
  return result;
}

planner::PlanFile planned_now(const TrainConfig& config) {
  const ParallelConfig& parallel = config.parallel;
  require(!parallel.topology.empty(),
          "[parallel.topology] got none with softmax or linear \"auto\"; want "
          "a topology file or a name such as mesh:ranks={}",
          parallel.sequence_ranks());
  planner::PlanRequest request{
      .machine = machine_of(config),
      .shape = model_shape(config),
      .layout = layout_of(config),
      .mask = config::planned_mask(config.model),
      .device_table = planner::load_device_table(
          parallel.device_table.empty() ? kDeviceTable : parallel.device_table),
      .message_overhead_seconds = parallel.message_overhead_seconds};
  if (parallel.memory_limit_bytes > 0) {
    request.memory_limit_bytes = parallel.memory_limit_bytes;
  }
  if (planner::worth_searching(request.machine)) {
    request.searched = planner::searched_strategies(request.machine);
  }
  return planner::plan_file(request, parallel.layout,
                            planner::make_plan(request));
}

}  // namespace

Exchanges exchanges(const TrainConfig& config) {
  const ParallelConfig& parallel = config.parallel;
  check_planning_fields(parallel);
  if (!parallel.plan.empty()) return planned_by_file(config);
  Exchanges result = named(config);
  if (!plans_at_start(parallel)) return result;
  const planner::PlanFile plan = planned_now(config);
  take(parallel.softmax == kAuto ? plan.softmax : std::nullopt,
       parallel.linear == kAuto ? plan.linear : std::nullopt, result);
  return result;
}

void check_run(const TrainConfig& config) {
  check(config);
  check_planning_fields(config.parallel);
  if (config.parallel.plan.empty()) named(config);
}

std::string describe(const Exchanges& exchanges) {
  return schedule::to_json(exchanges.softmax).dump() + " " +
         exchanges.linear->name();
}

planner::ModelShape model_shape(const TrainConfig& config) {
  return planner::model_shape(config.model, config.compute,
                              config::sequences_at_a_time(config), "model");
}

}  // namespace ringweave::train
