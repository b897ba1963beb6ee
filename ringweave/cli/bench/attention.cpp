// ringweave bench attention: softmax attention split over ranks against one
// call of libtorch's op on the whole sequence.
#include "ringweave/attention/attention.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/bench/bench.h"
#include "ringweave/cli/bench/device_table.h"
#include "ringweave/cli/bench/emulated.h"
#include "ringweave/cli/bench/exchanged.h"
#include "ringweave/cli/bench/machine.h"
#include "ringweave/cli/output_file.h"
#include "ringweave/cli/schedule_files.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/planner/search/searched.h"

namespace ringweave::cli {
namespace {

/// Name of the case whose schedules come from files.
constexpr const char* kFromFile = "schedule";

constexpr const char* kBenchAttentionWhere = "[bench attention]";

struct NamedStrategy {
  std::string name;
  schedule::Strategy strategy;
};

struct AttentionBench {
  BenchOptions options;
  std::int64_t kv_heads = 0;  // 0: as many as heads
  std::string strategy_list = "multi_ring";
  std::string plan_file;    // instead of strategies
  std::string saved_table;  // empty: don't measure
  MachineOptions machine_options;
  Machine machine;
  std::vector<Subject> subjects;  // if anything is asked of the machine
  std::vector<NamedStrategy> strategies;
  std::vector<std::string> schedule_files;    // instead of strategies
  std::string save_prefix;                    // empty: don't save
  std::optional<schedule::Schedule> forward;  // from schedule_files
  std::optional<schedule::Schedule> backward;
};

struct AttentionTensors {
  at::Tensor q, k, v, out_grad;
};

AttentionTensors make_tensors(const AttentionBench& bench) {
  const BenchOptions& options = bench.options;
  const auto make = [&](std::int64_t heads, std::uint64_t seed) {
    return random_tensor(
        {options.batch, options.seq_len, heads, options.head_dim},
        scalar_type(options), seed);
  };
  return {make(options.heads, 1), make(bench.kv_heads, 2),
          make(bench.kv_heads, 3), make(options.heads, 4)};
}

/// (batch, tokens, heads, head_dim) as the op takes it, and back.
at::Tensor heads_first(const at::Tensor& x) { return x.transpose(1, 2); }

BenchCase::Operation torch_operation(const AttentionBench& bench,
                                     const AttentionTensors& whole) {
  const bool causal = bench.options.mask.is_causal();
  const bool backward = !bench.options.forward_only;
  return [whole, causal, backward]() -> std::vector<at::Tensor> {
    const at::NoGradGuard no_grad;
    const at::Tensor q = heads_first(whole.q);
    const at::Tensor k = heads_first(whole.k);
    const at::Tensor v = heads_first(whole.v);
    const auto [out, lse] =
        at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal);
    if (!backward) return {heads_first(out)};
    const auto [dq, dk, dv] =
        at::_scaled_dot_product_flash_attention_for_cpu_backward(
            heads_first(whole.out_grad), q, k, v, out, lse, 0.0, causal);
    return {heads_first(out), heads_first(dq), heads_first(dk),
            heads_first(dv)};
  };
}

attention::AttentionSpec spec_of(const AttentionBench& bench,
                                 const schedule::Strategy& strategy) {
  const schedule::Layout layout = layout_of(bench.options);
  return {.strategy = strategy,
          .q_layout = layout,
          .kv_layout = layout,
          .mask = bench.options.mask,
          .backward = !bench.options.forward_only};
}

using Plan = std::shared_ptr<const attention::AttentionPlan>;

/// Of a strategy, or of the schedules that came from files.
Plan plan_of(const AttentionBench& bench, const schedule::Strategy& strategy,
             Rank rank) {
  const auto spec = spec_of(bench, strategy);
  return bench.forward ? attention::make_attention_plan(spec, *bench.forward,
                                                        bench.backward, rank)
                       : attention::make_attention_plan(spec, rank);
}

BenchCase::Operation split_operation(const Plan& plan,
                                     const std::string& device_kind,
                                     const AttentionTensors& whole,
                                     comm::Communicator& communicator) {
  const at::Device device = torch_device_of(device_kind, communicator.rank());
  const auto part = [&](const at::Tensor& x) {
    return shard(x, plan->spec.q_layout, communicator.rank()).to(device);
  };
  const at::Tensor q = part(whole.q);
  const at::Tensor k = part(whole.k);
  const at::Tensor v = part(whole.v);
  const at::Tensor out_grad = part(whole.out_grad);
  // Without autograd, whose one thread for a device can't run the backward
  // passes of several ranks.
  return [=, &communicator]() -> std::vector<at::Tensor> {
    const at::NoGradGuard no_grad;
    const attention::AttentionForward forward =
        attention::attention_forward(q, k, v, plan, communicator);
    if (!plan->spec.backward) return {forward.out};
    const attention::AttentionGradients gradients =
        attention::attention_backward(out_grad, q, k, v, forward, plan,
                                      communicator);
    return {forward.out, gradients.q, gradients.k, gradients.v};
  };
}

/// What the split is compared with: libtorch's op for CPUs, or where that lacks
/// the mask, and on other devices, this project's on one rank, which needs no
/// peer.
struct Baseline {
  std::string name;
  std::unique_ptr<comm::Communicator> alone;
  BenchCase::Operation operation;
};

Baseline make_baseline(const AttentionBench& bench,
                       const AttentionTensors& whole) {
  if (bench.options.device == kHostDevice && bench.options.mask.is_plain()) {
    return {"libtorch's flash attention", nullptr,
            torch_operation(bench, whole)};
  }
  auto alone =
      std::make_unique<comm::Communicator>(comm::LocalWorld(1).transport(0));
  const auto layout = schedule::Layout::contiguous(bench.options.seq_len, 1);
  const Plan plan =
      attention::make_attention_plan({.strategy = {},
                                      .q_layout = layout,
                                      .kv_layout = layout,
                                      .mask = bench.options.mask,
                                      .backward = !bench.options.forward_only},
                                     0);
  auto operation = split_operation(plan, bench.options.device, whole, *alone);
  return {"the same on one rank", std::move(alone), std::move(operation)};
}

/// Bytes of one token of keys and values, and of their gradients, which travel
/// in fp32 or better.
schedule::UnitBytes unit_bytes(const AttentionBench& bench) {
  const ElementType type = element_type_from_name(bench.options.dtype);
  const auto numbers =
      2 * bench.options.batch * bench.kv_heads * bench.options.head_dim;
  return {{schedule::Payload::kv, numbers * element_bytes(type)},
          {schedule::Payload::kv_grad,
           numbers * element_bytes(accumulate_type(type))}};
}

/// Bytes that the plan's rank sends to each other rank.
std::map<Rank, std::int64_t> planned_bytes(const attention::AttentionPlan& plan,
                                           const schedule::UnitBytes& units) {
  std::map<Rank, std::int64_t> bytes;
  for (const schedule::Program* program : {&plan.forward, &plan.backward}) {
    for (const auto& [to, sent] : program->sent_bytes(units)) bytes[to] += sent;
  }
  return bytes;
}

std::int64_t planned_buffers(const attention::AttentionPlan& plan,
                             const schedule::UnitBytes& units) {
  return std::max(plan.forward.buffer_bytes(units),
                  plan.backward.buffer_bytes(units));
}

void read_schedules(AttentionBench& bench) {
  for (const std::string& file : bench.schedule_files) {
    const schedule::Schedule schedule =
        schedule::schedule_from_json(read_json_file(file), file);
    auto& place = schedule.pass == schedule::Pass::forward ? bench.forward
                                                           : bench.backward;
    require(!place, "[bench attention] got two schedules of the {} pass",
            schedule::name(schedule.pass));
    place = schedule;
  }
  require(bench.forward.has_value(),
          "[bench attention] got no schedule of the forward pass");
  require(
      bench.backward.has_value() != bench.options.forward_only,
      "[bench attention] got {} schedule of the backward pass; want {}",
      bench.backward ? "a" : "no",
      bench.backward ? "none with --forward-only" : "one, or --forward-only");
  bench.strategies = {{kFromFile, {}}};
}

/// With a topology some are searched for in it.
void read_strategies(AttentionBench& bench) {
  const auto names = schedule::split_strategy_names(bench.strategy_list);
  check_distinct(names, "--strategy", kBenchAttentionWhere);
  for (const std::string& name : names) {
    bench.strategies.push_back(
        {name, bench.machine.topology
                   ? planner::strategy_on(*bench.machine.topology, name)
                   : schedule::strategy_from_name(name)});
  }
}

void read_plan(AttentionBench& bench) {
  const planner::PlanFile plan = planner::read_plan_file(bench.plan_file);
  require(plan.softmax.has_value(),
          "[bench attention] got {}, a plan without softmax layers",
          bench.plan_file);
  check_fits(plan, bench.plan_file, bench.options, bench.kv_heads);
  bench.strategies = {{plan.softmax->name, *plan.softmax->strategy}};
}

void save_schedules(const AttentionBench& bench) {
  const auto spec = spec_of(bench, bench.strategies.front().strategy);
  const schedule::AttentionDemand demand(spec.q_layout, spec.kv_layout,
                                         spec.mask);
  const auto save = [&](schedule::Pass pass) {
    save_schedule(schedule::whole(spec.strategy, demand, pass, spec.backward),
                  bench.save_prefix, "[bench attention]");
  };
  save(schedule::Pass::forward);
  if (spec.backward) save(schedule::Pass::backward);
}

void run(const AttentionBench& bench, const Context& context) {
  Json own = {{"kv_heads", bench.kv_heads}};
  own.update(to_json(bench.machine_options));
  if (bench.machine.emulates()) {
    return run_emulated("attention", bench.options, own, bench.machine,
                        bench.subjects, context);
  }
  if (!bench.saved_table.empty()) {
    require(!context.engine.is_group(),
            "{} got --save-device-table under a launcher; want one process",
            kBenchAttentionWhere);
    return save_device_table(bench.options, bench.kv_heads, bench.saved_table);
  }
  if (!bench.save_prefix.empty() && context.leads()) save_schedules(bench);
  const AttentionTensors whole = make_tensors(bench);
  const Baseline baseline = make_baseline(bench, whole);
  std::vector<BenchReport> reports;
  for (const NamedStrategy& of_case : bench.strategies) {
    const auto split = [&](comm::Communicator& communicator) {
      const Plan plan = plan_of(bench, of_case.strategy, communicator.rank());
      const schedule::UnitBytes units = unit_bytes(bench);
      return BenchCase::Part{
          .operation =
              split_operation(plan, bench.options.device, whole, communicator),
          .planned_bytes = planned_bytes(*plan, units),
          .planned_buffers = planned_buffers(*plan, units)};
    };
    reports.push_back(run_case(context.engine, bench.options,
                               {of_case.name, split}, baseline.operation));
  }
  add_messages_alone(bench.options, bench.machine, bench.subjects, context,
                     reports);
  if (!context.leads()) return;
  print_reports("attention", bench.options, own, baseline.name, reports);
}

/// Before any work.
void check_files(const AttentionBench& bench) {
  if (!bench.saved_table.empty()) {
    check_writable(bench.saved_table, "--save-device-table",
                   kBenchAttentionWhere);
  }
  if (!bench.save_prefix.empty()) {
    std::vector<schedule::Pass> passes = {schedule::Pass::forward};
    if (!bench.options.forward_only) passes.push_back(schedule::Pass::backward);
    check_schedules_writable(passes, bench.save_prefix, kBenchAttentionWhere);
  }
}

void add_subjects(AttentionBench& bench, int ranks_here) {
  require(bench.schedule_files.empty() && bench.saved_table.empty() &&
              bench.save_prefix.empty(),
          "{} got --compute emulate or --topology with --schedule, "
          "--save-schedules or --save-device-table; want none of them",
          kBenchAttentionWhere);
  const BenchOptions& options = bench.options;
  const planner::ModelShape shape{.heads = options.heads,
                                  .kv_heads = bench.kv_heads,
                                  .head_dim = options.head_dim,
                                  .type = element_type_from_name(options.dtype),
                                  .batch = options.batch};
  const schedule::Layout layout = layout_of(options);
  const std::int64_t tokens = (options.seq_len - 1) / options.ranks + 1;
  for (const NamedStrategy& of_case : bench.strategies) {
    schedule::strand_count(of_case.strategy, options.ranks);
    const auto add = [&](schedule::Pass pass, std::int64_t token_bytes) {
      bench.subjects.push_back(
          {{of_case.name, pass, tokens * token_bytes},
           exchanged_attention(of_case.strategy, layout, options.mask, pass,
                               shape, bench.machine.timed())});
    };
    add(schedule::Pass::forward, shape.kv_token_bytes());
    if (!options.forward_only) {
      add(schedule::Pass::backward, shape.grad_token_bytes());
    }
  }
  check_memory(bench.subjects, ranks_here, kBenchAttentionWhere);
}

/// Returns what the files that it read say.
std::map<std::string, std::string> prepare(AttentionBench& bench,
                                           const Context& context) {
  check_files(bench);
  bench.machine =
      read_machine(bench.machine_options, bench.options, kBenchAttentionWhere);
  if (bench.kv_heads == 0) bench.kv_heads = bench.options.heads;
  require(bench.kv_heads >= 1 && bench.options.heads % bench.kv_heads == 0,
          "[bench attention] got {} heads and {} kv heads; want kv heads that "
          "divide the heads",
          bench.options.heads, bench.kv_heads);
  std::map<std::string, std::string> facts;
  if (bench.plan_file.empty()) {
    read_strategies(bench);
  } else {
    read_plan(bench);
    facts["plan"] = schedule::to_json(bench.strategies.front().strategy).dump();
  }
  if (bench.machine.asked()) {
    add_subjects(bench, context.engine.ranks_here(bench.options.ranks));
    facts.merge(bench.machine.facts());
  }
  if (bench.machine.emulates()) return facts;
  check_memory_of_tensors(bench.options);
  if (!bench.schedule_files.empty()) read_schedules(bench);
  require(bench.save_prefix.empty() || bench.strategies.size() == 1,
          "[bench attention] got --save-schedules with {} strategies; want one",
          bench.strategies.size());
  for (const NamedStrategy& of_case : bench.strategies) {
    try {
      plan_of(bench, of_case.strategy, 0);
    } catch (const InvalidArgument& error) {
      if (bench.schedule_files.empty()) throw;
      throw InvalidArgument(fmt::format("{} got {}: {}", kBenchAttentionWhere,
                                        fmt::join(bench.schedule_files, ", "),
                                        error.what()));
    }
  }
  for (const auto* schedule : {&bench.forward, &bench.backward}) {
    if (*schedule) {
      facts[name((*schedule)->pass)] = schedule::to_json(**schedule).dump();
    }
  }
  return facts;
}

}  // namespace

void add_bench_attention(CLI::App& bench_command, Context& context) {
  auto bench = std::make_shared<AttentionBench>();
  CLI::App* command = add_benchmark(
      bench_command, context, "attention",
      "Softmax attention split over ranks, against one call of libtorch's op",
      bench->options, [bench, &context] { return prepare(*bench, context); },
      [bench, &context] { run(*bench, context); });
  command
      ->add_option("--kv-heads", bench->kv_heads,
                   "Heads of keys and values; default: all heads")
      ->type_name("N");
  CLI::Option* strategy = command->add_option(
      "--strategy", bench->strategy_list,
      "Strategies to time, with commas: ring, multi_ring, direct, "
      "hierarchical:nodes=2,slices=3, ...");
  strategy->type_name("NAME,...")->capture_default_str();
  CLI::Option* plan_file = command->add_option(
      "--plan", bench->plan_file,
      "Run the strategy of a file of `ringweave plan --save`");
  plan_file->type_name("FILE")->excludes(strategy);
  CLI::Option* saved_table = command->add_option(
      "--save-device-table", bench->saved_table,
      "Measure single tiles up to --seq-len instead, on one device, and write "
      "the times for `ringweave plan --device-table`");
  saved_table->type_name("FILE");
  add_machine_options(*command, bench->machine_options);
  CLI::Option* schedules = command->add_option(
      "--schedule", bench->schedule_files,
      "Run the schedules of these files instead of a strategy's: one of the "
      "forward pass and one of the backward pass");
  schedules->delimiter(',')->type_name("FILE")->excludes(plan_file)->excludes(
      strategy);
  command
      ->add_option("--save-schedules", bench->save_prefix, kSaveSchedulesHelp)
      ->type_name("PREFIX")
      ->excludes(schedules);
  for (const char* other :
       {"--json", "--strategy", "--plan", "--schedule", "--save-schedules"}) {
    saved_table->excludes(command->get_option(other));
  }
}

}  // namespace ringweave::cli
