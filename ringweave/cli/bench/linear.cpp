// ringweave bench linear: linear attention split over ranks against the same
// code on one rank with as many threads in all.
#include <map>
#include <memory>
#include <numeric>
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
#include "ringweave/cli/bench/emulated.h"
#include "ringweave/cli/bench/exchanged.h"
#include "ringweave/cli/bench/machine.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/config/linear_family.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/schedule/decay.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::cli {
namespace {

using schedule::Decay;

constexpr const char* kBenchLinearWhere = "[bench linear]";
constexpr const char* kDecay = "constant";

struct LinearBench {
  BenchOptions options;
  std::int64_t kv_heads = 0;  // 0: the plan's, or as many as heads
  std::string decay;          // empty: the plan's, or kDecay
  std::string exchange_list = schedule::kDefaultStateExchange;
  std::string plan_file;  // instead of exchanges
  std::vector<std::string> exchanges;
  MachineOptions machine_options;
  Machine machine;
  std::vector<Subject> subjects;  // if anything is asked of the machine
};

struct LinearTensors {
  at::Tensor q, k, v, gates, out_grad;
};

/// Log decays of about -0.05 per token, in the type that states have: of every
/// query head, or for per_key of every key head.
at::Tensor make_gates(const LinearBench& bench, at::ScalarType type) {
  const BenchOptions& options = bench.options;
  std::vector<std::int64_t> shape;
  switch (schedule::decay_from_name(bench.decay)) {
    case Decay::none:
      return {};
    case Decay::constant:
      shape = {options.heads};
      break;
    case Decay::per_head:
      shape = {options.batch, options.seq_len, options.heads};
      break;
    case Decay::per_key:
      shape = {options.batch, options.seq_len, bench.kv_heads,
               options.head_dim};
      break;
  }
  return random_tensor(shape, type, 5).abs().mul(-0.05);
}

LinearTensors make_tensors(const LinearBench& bench) {
  const BenchOptions& options = bench.options;
  const at::ScalarType type = scalar_type(options);
  const at::ScalarType precise = tensor::accumulate_type(type);
  const auto make = [&](std::int64_t heads, std::uint64_t seed) {
    return random_tensor(
        {options.batch, options.seq_len, heads, options.head_dim}, type, seed);
  };
  return {make(options.heads, 1), make(bench.kv_heads, 2),
          make(bench.kv_heads, 3), make_gates(bench, precise),
          make(options.heads, 4)};
}

linear_attention::LinearSpec linear_spec(const BenchOptions& options,
                                         const std::string& exchange) {
  return {.exchange = schedule::state_exchange_from_name(exchange),
          .layout = layout_of(options),
          .mask = options.mask};
}

/// Forward and backward of one rank. The gradient of a constant decay is a part
/// of a sum over ranks and is not returned.
BenchCase::Part part_of(const LinearBench& bench,
                        const linear_attention::LinearSpec& spec,
                        const LinearTensors& whole,
                        comm::Communicator& communicator) {
  const Decay decay = schedule::decay_from_name(bench.decay);
  const auto plan =
      linear_attention::make_linear_plan(spec, communicator.rank());
  const bool backward = !bench.options.forward_only;
  const at::Device device =
      torch_device_of(bench.options.device, communicator.rank());
  const auto part = [&](const at::Tensor& x) {
    return shard(x, spec.layout, communicator.rank()).to(device);
  };
  const at::Tensor q = part(whole.q);
  const at::Tensor k = part(whole.k);
  const at::Tensor v = part(whole.v);
  const bool own_gates = decay == Decay::per_head || decay == Decay::per_key;
  const at::Tensor gates = own_gates               ? part(whole.gates)
                           : whole.gates.defined() ? whole.gates.to(device)
                                                   : at::Tensor();
  const at::Tensor out_grad = part(whole.out_grad);
  // Without autograd, whose one thread for a device can't run the backward
  // passes of several ranks.
  const auto operation = [=, &communicator]() -> std::vector<at::Tensor> {
    const at::NoGradGuard no_grad;
    const linear_attention::LinearInputs inputs = {q, k, v, decay, gates, {}};
    const linear_attention::LinearOptions options = {
        .scale = 1.0, .final_state = false, .backward = backward};
    const linear_attention::LinearForward forward =
        linear_attention::linear_attention_forward(inputs, plan, communicator,
                                                   options);
    if (!backward) return {forward.out};
    const linear_attention::LinearGradients gradients =
        linear_attention::linear_attention_backward(out_grad, {}, inputs,
                                                    forward, own_gates, plan,
                                                    communicator, options);
    std::vector<at::Tensor> results = {forward.out, gradients.q, gradients.k,
                                       gradients.v};
    if (own_gates) results.push_back(gradients.gates);
    return results;
  };
  return {.operation = operation,
          .planned_bytes = linear_attention::planned_bytes(*plan, decay, q, k,
                                                           v, gates, backward)};
}

void run(const LinearBench& bench, const Context& context) {
  Json own = {{"kv_heads", bench.kv_heads}, {"decay", bench.decay}};
  own.update(to_json(bench.machine_options));
  if (bench.machine.emulates()) {
    return run_emulated("linear", bench.options, own, bench.machine,
                        bench.subjects, context);
  }
  const LinearTensors whole = make_tensors(bench);
  // The whole runs on one rank, so it needs no peer; any exchange will do.
  comm::Communicator alone(comm::LocalWorld(1).transport(0));
  const linear_attention::LinearSpec whole_spec = {
      .exchange =
          schedule::state_exchange_from_name(schedule::kDefaultStateExchange),
      .layout = schedule::Layout::contiguous(bench.options.seq_len, 1),
      .mask = bench.options.mask};
  const auto whole_operation =
      part_of(bench, whole_spec, whole, alone).operation;

  std::vector<BenchReport> reports;
  for (const std::string& exchange : bench.exchanges) {
    const auto split = [&](comm::Communicator& communicator) {
      return part_of(bench, linear_spec(bench.options, exchange), whole,
                     communicator);
    };
    reports.push_back(run_case(context.engine, bench.options, {exchange, split},
                               whole_operation));
  }
  add_messages_alone(bench.options, bench.machine, bench.subjects, context,
                     reports);
  if (!context.leads()) return;
  print_reports("linear", bench.options, own, "the same on one rank", reports);
}

/// What linear attention has of the tensors that make_tensors() makes.
planner::ModelShape shape_of(const LinearBench& bench) {
  const BenchOptions& options = bench.options;
  const Decay decay = schedule::decay_from_name(bench.decay);
  // As many states as the least common multiple of the heads of keys and gates.
  const bool of_queries = decay == Decay::constant || decay == Decay::per_head;
  const std::int64_t states =
      of_queries ? std::lcm(bench.kv_heads, options.heads) : bench.kv_heads;
  return {.pattern = "L",
          .heads = options.heads,
          .kv_heads = bench.kv_heads,
          .head_dim = options.head_dim,
          .state = {states, options.head_dim, options.head_dim},
          .state_decays = schedule::summary_decays(decay, options.head_dim),
          .type = element_type_from_name(options.dtype),
          .batch = options.batch};
}

void add_subjects(LinearBench& bench, int ranks_here) {
  const BenchOptions& options = bench.options;
  const planner::ModelShape shape = shape_of(bench);
  const std::int64_t bytes = shape.state_numbers() * shape.sum_bytes();
  std::vector<schedule::Pass> passes = {schedule::Pass::forward};
  if (!options.forward_only) passes.push_back(schedule::Pass::backward);
  for (const std::string& name : bench.exchanges) {
    for (const schedule::Pass pass : passes) {
      bench.subjects.push_back(
          {{name, pass, bytes},
           exchanged_linear(schedule::state_exchange_from_name(name),
                            layout_of(options), options.mask.is_causal(), pass,
                            shape, bench.machine.timed())});
    }
  }
  check_memory(bench.subjects, ranks_here, kBenchLinearWhere);
}

/// Returns what all ranks must have alike.
std::map<std::string, std::string> prepare(LinearBench& bench,
                                           const Context& context) {
  bench.machine =
      read_machine(bench.machine_options, bench.options, kBenchLinearWhere);
  if (!bench.machine.emulates()) check_memory_of_tensors(bench.options);
  bench.exchanges = schedule::split_strategy_names(bench.exchange_list);
  check_distinct(bench.exchanges, "--exchange", kBenchLinearWhere);
  if (!bench.plan_file.empty()) {
    const planner::PlanFile plan = planner::read_plan_file(bench.plan_file);
    require(plan.linear.has_value(),
            "[bench linear] got {}, a plan without linear layers",
            bench.plan_file);
    const std::string& kind = plan.model.linear;
    const std::string decay = name(config::linear_family(kind).decay);
    if (bench.decay.empty()) bench.decay = decay;
    require(bench.decay == decay,
            "[bench linear] got {}, which is for {} layers, and --decay {}; "
            "want --decay {}",
            bench.plan_file, kind, bench.decay, decay);
    if (bench.kv_heads == 0) bench.kv_heads = plan.model.kv_heads;
    check_fits(plan, bench.plan_file, bench.options, bench.kv_heads);
    bench.exchanges = {plan.linear->name};
  }
  if (bench.kv_heads == 0) bench.kv_heads = bench.options.heads;
  require(bench.kv_heads >= 1 && bench.options.heads % bench.kv_heads == 0,
          "[bench linear] got {} heads and {} kv heads; want kv heads that "
          "divide the heads",
          bench.options.heads, bench.kv_heads);
  if (bench.decay.empty()) bench.decay = kDecay;
  const Decay decay = schedule::decay_from_name(bench.decay);
  require(bench.options.mask.is_causal() || decay == Decay::none,
          "[bench linear] got --mask full and --decay {}; want causal, or no "
          "decay",
          bench.decay);
  for (const std::string& exchange : bench.exchanges) {
    linear_attention::make_linear_plan(linear_spec(bench.options, exchange), 0);
  }
  std::map<std::string, std::string> facts = {
      {"exchanges", fmt::format("{}", fmt::join(bench.exchanges, " "))},
      {"decay", bench.decay},
      {"kv_heads", fmt::format("{}", bench.kv_heads)}};
  if (bench.machine.asked()) {
    add_subjects(bench, context.engine.ranks_here(bench.options.ranks));
    facts.merge(bench.machine.facts());
  }
  return facts;
}

}  // namespace

void add_bench_linear(CLI::App& bench_command, Context& context) {
  auto bench = std::make_shared<LinearBench>();
  CLI::App* command = add_benchmark(
      bench_command, context, "linear",
      "Linear attention split over ranks, against the same on one rank",
      bench->options, [bench, &context] { return prepare(*bench, context); },
      [bench, &context] { run(*bench, context); });
  command
      ->add_option("--kv-heads", bench->kv_heads,
                   "Heads of keys and values; default: all heads; with "
                   "--plan: its layers'")
      ->type_name("N");
  command
      ->add_option("--decay", bench->decay,
                   "none, constant (Lightning), per_head or per_key (GLA); "
                   "with --plan: its layers'")
      ->check(one_of(schedule::decay_names()))
      ->default_str(kDecay);
  CLI::Option* exchange =
      command->add_option("--exchange", bench->exchange_list,
                          "How states travel, with commas: chain, "
                          "pipelined_chain, pipelined_chain:16, sharded_scan, "
                          "log_step, all_gather, "
                          "all_gather:ring, ...");
  exchange->type_name("NAME,...")->capture_default_str();
  command
      ->add_option("--plan", bench->plan_file,
                   "Run the exchange of a file of `ringweave plan --save`")
      ->type_name("FILE")
      ->excludes(exchange);
  add_machine_options(*command, bench->machine_options);
}

}  // namespace ringweave::cli
