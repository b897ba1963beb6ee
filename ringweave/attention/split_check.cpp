#include "ringweave/attention/split_check.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/device/simulated/test_device.h"

namespace ringweave::attention::test {
namespace {

using schedule::Layout;
using schedule::Mask;

/// (q tokens, kv tokens), true where the mask lets a query see a key.
at::Tensor visible(const Mask& mask, std::int64_t q_tokens,
                   std::int64_t kv_tokens) {
  at::Tensor visible = at::zeros({q_tokens, kv_tokens}, at::kBool);
  auto cells = visible.accessor<bool, 2>();
  for (std::int64_t q = 0; q < q_tokens; ++q) {
    for (std::int64_t k = 0; k < kv_tokens; ++k) {
      cells[q][k] = mask.sees(q, k);
    }
  }
  return visible;
}

}  // namespace

Case formula(const at::Tensor& sees, const Sizes& sizes, double scale,
             std::uint64_t seed, at::ScalarType type) {
  const std::int64_t q_tokens = sees.size(0);
  const std::int64_t kv_tokens = sees.size(1);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto random = [&](std::int64_t tokens, std::int64_t heads) {
    return at::randn({sizes.batch, tokens, heads, sizes.head_dim}, generator,
                     at::kDouble)
        .to(type)
        .to(at::kDouble);
  };
  Case c;
  c.q = random(q_tokens, sizes.heads).set_requires_grad(true);
  c.k = random(kv_tokens, sizes.kv_heads).set_requires_grad(true);
  c.v = random(kv_tokens, sizes.kv_heads).set_requires_grad(true);
  c.grad_out = random(q_tokens, sizes.heads);
  const auto heads_first = [&](const at::Tensor& x) {
    return x.repeat_interleave(sizes.heads / x.size(2), 2).transpose(1, 2);
  };
  const double infinity = std::numeric_limits<double>::infinity();
  const at::Tensor scores =
      (heads_first(c.q).matmul(heads_first(c.k).transpose(2, 3)) * scale)
          .masked_fill(~sees, -infinity);
  const at::Tensor blind = ~sees.any(1, /*keepdim=*/true);
  const at::Tensor weights =
      scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0);
  c.out = weights.matmul(heads_first(c.v)).transpose(1, 2);
  c.lse = scores.detach().logsumexp(-1);
  const auto gradients =
      torch::autograd::grad({c.out}, {c.q, c.k, c.v}, {c.grad_out});
  c.out = c.out.detach();
  c.grad_q = gradients[0];
  c.grad_k = gradients[1];
  c.grad_v = gradients[2];
  return c;
}

Case reference(const Mask& mask, std::int64_t q_tokens, std::int64_t kv_tokens,
               const Sizes& sizes, double scale, std::uint64_t seed,
               at::ScalarType type) {
  return formula(visible(mask, q_tokens, kv_tokens), sizes, scale, seed, type);
}

at::Tensor shard(const at::Tensor& x, const Layout& layout, Rank rank,
                 int dimension) {
  return x.detach().index_select(dimension,
                                 at::tensor(layout.positions(rank), at::kLong));
}

void expect_close(const at::Tensor& got, const at::Tensor& want,
                  double tolerance, const char* what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  if (want.numel() == 0) return;
  const at::Tensor a = got.cpu().to(at::kDouble);
  ASSERT_TRUE(at::equal(a.isinf(), want.isinf())) << what;
  const at::Tensor b = want.masked_fill(want.isinf(), 0.0);
  const double error =
      (a.masked_fill(a.isinf(), 0.0) - b).abs().max().item<double>();
  const double size = std::max(1.0, b.abs().max().item<double>());
  EXPECT_LE(error, tolerance * size) << what;
}

namespace {

/// Of q, k and v.
using Gradients = std::vector<at::Tensor>;

struct Split {
  at::Tensor out, lse;
  Gradients gradients;
};

/// By autograd.
Split differentiated(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, const at::Tensor& grad_out,
                     const std::shared_ptr<const AttentionPlan>& plan,
                     comm::Communicator& communicator,
                     const AttentionOptions& options) {
  for (const at::Tensor& x : {q, k, v}) x.set_requires_grad(true);
  const auto result = attention(q, k, v, plan, communicator, options);
  return {result.out, result.lse,
          torch::autograd::grad({result.out}, {q, k, v}, {grad_out})};
}

/// Without autograd, whose thread for a device can't wait for another rank on
/// it.
Split called(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
             const at::Tensor& grad_out,
             const std::shared_ptr<const AttentionPlan>& plan,
             comm::Communicator& communicator,
             const AttentionOptions& options) {
  const AttentionForward forward =
      attention_forward(q, k, v, plan, communicator, options);
  const AttentionGradients gradients = attention_backward(
      grad_out, q, k, v, forward, plan, communicator, options);
  return {forward.out, forward.lse, {gradients.q, gradients.k, gradients.v}};
}

}  // namespace

void expect_exact(const Scenario& scenario, std::uint64_t seed) {
  const AttentionSpec& spec = scenario.spec;
  const Case whole =
      reference(spec.mask, spec.q_layout.tokens(), spec.kv_layout.tokens(),
                scenario.sizes, scenario.scale, seed, scenario.type);
  // Delays are those of messages in the host's memory.
  const bool on_host = scenario.faults.max_delay.count() > 0;
  const auto split =
      !on_host && device::test_devices_are_shared(spec.q_layout.ranks())
          ? called
          : differentiated;
  std::mutex one_at_a_time;
  comm::run_ranks(
      spec.q_layout.ranks(),
      [&](Rank rank, std::shared_ptr<comm::Transport> transport) {
        comm::Communicator communicator(std::move(transport));
        const at::Device device =
            on_host ? at::kCPU : device::test_device(rank);
        const auto own = [&](const at::Tensor& x, const Layout& layout) {
          return shard(x, layout, rank).to(scenario.type).to(device);
        };
        const at::Tensor q = own(whole.q, spec.q_layout);
        const at::Tensor k = own(whole.k, spec.kv_layout);
        const at::Tensor v = own(whole.v, spec.kv_layout);
        const auto plan = make_attention_plan(spec, rank);
        const auto [out, lse, gradients] = split(
            q, k, v, own(whole.grad_out, spec.q_layout), plan, communicator,
            {.scale = scenario.scale,
             .grad_payload_in_compute_type =
                 scenario.grad_payload_in_compute_type});
        const std::lock_guard lock(one_at_a_time);
        SCOPED_TRACE(fmt::format("rank {}", rank));
        const auto compare = [&](const at::Tensor& got, const at::Tensor& want,
                                 const Layout& layout, const char* what,
                                 int dimension = 1) {
          EXPECT_EQ(got.device(), device);
          expect_close(got, shard(want, layout, rank, dimension),
                       scenario.tolerance, what);
        };
        EXPECT_EQ(out.scalar_type(), scenario.type);
        compare(out, whole.out, spec.q_layout, "out");
        compare(lse, whole.lse, spec.q_layout, "lse", 2);
        compare(gradients[0], whole.grad_q, spec.q_layout, "grad q");
        compare(gradients[1], whole.grad_k, spec.kv_layout, "grad k");
        compare(gradients[2], whole.grad_v, spec.kv_layout, "grad v");
      },
      scenario.faults);
}

std::vector<Layout> layouts(int ranks) {
  std::vector<std::int64_t> uneven;
  std::vector<std::int64_t> with_empty;
  for (int r = 0; r < ranks; ++r) {
    uneven.push_back(1 + (5 * r + 3) % 7);
    with_empty.push_back(r % 2 == 0 ? 0 : 6);
  }
  return {Layout::contiguous(37, ranks),    Layout::zigzag(41, ranks),
          Layout::zigzag(ranks - 1, ranks), Layout::striped(39, ranks),
          Layout::contiguous(uneven),       Layout::contiguous(with_empty)};
}

}  // namespace ringweave::attention::test
