// ringweave bench attention: softmax attention split over ranks against one
// call of libtorch's op on the whole sequence.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/error.h"
#include "ringweave/cli/bench.h"

namespace ringweave::cli {
namespace {

struct AttentionBench {
  BenchOptions options;
  std::int64_t kv_heads = 0;  // 0: as many as heads
  std::vector<std::string> strategies = {"multi_ring"};
};

struct Tensors {
  at::Tensor q, k, v, out_grad;
};

Tensors make_tensors(const AttentionBench& bench) {
  const BenchOptions& options = bench.options;
  const auto make = [&](std::int64_t heads, std::uint64_t seed) {
    return random_tensor(
        {options.batch, options.tokens, heads, options.head_dim},
        scalar_type(options), seed);
  };
  return {make(options.heads, 1), make(bench.kv_heads, 2),
          make(bench.kv_heads, 3), make(options.heads, 4)};
}

/// (batch, tokens, heads, head_dim) as the op takes it, and back.
at::Tensor heads_first(const at::Tensor& x) { return x.transpose(1, 2); }

BenchCase::Operation whole_operation(const AttentionBench& bench,
                                     const Tensors& whole) {
  const bool causal = mask_of(bench.options).is_causal();
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

attention::AttentionSpec spec_of(const BenchOptions& options,
                                 const std::string& strategy) {
  const plan::Layout layout = layout_of(options);
  return {.strategy = plan::strategy_from_name(strategy),
          .q_layout = layout,
          .kv_layout = layout,
          .mask = mask_of(options),
          .backward = !options.forward_only};
}

BenchCase::Operation split_operation(const BenchOptions& options,
                                     const std::string& strategy,
                                     const Tensors& whole,
                                     comm::Communicator& communicator) {
  const auto spec = spec_of(options, strategy);
  const auto plan = attention::make_attention_plan(spec, communicator.rank());
  const bool backward = spec.backward;
  const auto part = [&](const at::Tensor& x) {
    return shard(x, spec.q_layout, communicator.rank(), backward);
  };
  const at::Tensor q = part(whole.q);
  const at::Tensor k = part(whole.k);
  const at::Tensor v = part(whole.v);
  const at::Tensor out_grad = part(whole.out_grad).detach();
  return [=, &communicator]() -> std::vector<at::Tensor> {
    const at::Tensor out =
        attention::attention(q, k, v, plan, communicator).out;
    if (!backward) return {out};
    auto grads = torch::autograd::grad({out}, {q, k, v}, {out_grad});
    grads.insert(grads.begin(), out);
    return grads;
  };
}

/// Bytes of one token of keys and values, and of their gradients, which travel
/// in fp32 or better.
plan::UnitBytes unit_bytes(const AttentionBench& bench) {
  const at::ScalarType type = scalar_type(bench.options);
  const auto numbers =
      2 * bench.options.batch * bench.kv_heads * bench.options.head_dim;
  const auto bytes = static_cast<std::int64_t>(at::elementSize(type));
  return {{plan::Payload::kv, numbers * bytes},
          {plan::Payload::kv_grad,
           numbers * std::max<std::int64_t>(bytes, sizeof(float))}};
}

std::int64_t planned_bytes(const AttentionBench& bench,
                           const std::string& strategy, Rank from, Rank to) {
  const auto plan =
      attention::make_attention_plan(spec_of(bench.options, strategy), from);
  std::int64_t bytes = 0;
  for (const plan::Schedule* schedule : {&plan->forward, &plan->backward}) {
    auto traffic = plan::link_traffic(*schedule);
    for (const auto& [payload, units] : traffic[{from, to}]) {
      bytes += units * unit_bytes(bench).at(payload);
    }
  }
  return bytes;
}

void run(const AttentionBench& bench) {
  const Tensors whole = make_tensors(bench);
  std::vector<BenchReport> reports;
  for (const std::string& strategy : bench.strategies) {
    const BenchCase bench_case = {
        .name = strategy,
        .split =
            [&](comm::Communicator& communicator) {
              return split_operation(bench.options, strategy, whole,
                                     communicator);
            },
        .planned_bytes =
            [&](Rank from, Rank to) {
              return planned_bytes(bench, strategy, from, to);
            }};
    reports.push_back(
        run_case(bench.options, bench_case, whole_operation(bench, whole)));
  }
  print_reports("attention", bench.options, "libtorch's flash attention",
                reports);
}

void prepare(const std::shared_ptr<AttentionBench>& bench, Context& context) {
  check(bench->options, context);
  if (bench->kv_heads == 0) bench->kv_heads = bench->options.heads;
  require(bench->kv_heads >= 1 && bench->options.heads % bench->kv_heads == 0,
          "[bench attention] got {} heads and {} kv heads; want kv heads that "
          "divide the heads",
          bench->options.heads, bench->kv_heads);
  for (const std::string& strategy : bench->strategies) {
    attention::make_attention_plan(spec_of(bench->options, strategy), 0);
  }
  context.job = [bench] { run(*bench); };
}

}  // namespace

void add_bench_attention(CLI::App& bench_command, Context& context) {
  auto bench = std::make_shared<AttentionBench>();
  CLI::App* command = bench_command.add_subcommand(
      "attention",
      "Softmax attention split over ranks, against one call of libtorch's op");
  add_options(*command, bench->options);
  command
      ->add_option("--kv-heads", bench->kv_heads,
                   "Heads of keys and values; default: all heads")
      ->type_name("N");
  command
      ->add_option("--strategy", bench->strategies,
                   "Strategies to time, with commas: ring, multi_ring, "
                   "direct, all_gather, ...")
      ->delimiter(',')
      ->capture_default_str();
  command->callback([bench, &context] { prepare(bench, context); });
}

}  // namespace ringweave::cli
