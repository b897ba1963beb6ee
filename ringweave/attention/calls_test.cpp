// What one rank does: its kernel calls, and the memory that it keeps.
#include <atomic>

#include <ATen/ATen.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/attention/attention.h"
#include "ringweave/attention/kernel.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/null_transport.h"

namespace ringweave::attention {
namespace {

using schedule::Layout;
using schedule::Mask;

/// Counts its calls, and computes nothing.
class CountingKernel final : public Kernel {
 public:
  std::string name() const override { return "counting"; }
  Support supports(const TileKind&, const schedule::Area&) const override {
    return enabled ? Support::direct : Support::none;
  }
  Partial forward(const Tile& tile) const override {
    ++calls;
    return {at::zeros_like(tile.q),
            tile.q.new_zeros({tile.q.size(0), tile.q.size(2), tile.q.size(1)})};
  }
  TileGradients backward(const at::Tensor&, const Tile& tile, const at::Tensor&,
                         const at::Tensor&) const override {
    ++calls;
    return {at::zeros_like(tile.q), at::zeros_like(tile.k),
            at::zeros_like(tile.v)};
  }

  std::atomic<bool> enabled = false;
  mutable std::atomic<int> calls = 0;
};

CountingKernel& counting_kernel() {
  static const auto kernel = [] {
    auto made = std::make_shared<CountingKernel>();
    add_kernel(made);
    return made;
  }();
  return *kernel;
}

/// Kernel calls of one rank's forward pass, and with the backward pass.
struct Calls {
  int forward = 0;
  int both = 0;
};

Calls count_calls(const std::string& strategy, const Layout& layout,
                  const Mask& mask, Rank counted) {
  CountingKernel& kernel = counting_kernel();
  kernel.enabled = true;
  const AttentionSpec spec = {schedule::strategy_from_name(strategy), layout,
                              layout, mask};
  Calls calls;
  const auto plan = make_attention_plan(spec, counted);
  comm::Communicator communicator(
      std::make_shared<comm::NullTransport>(counted, layout.ranks()));
  const at::Tensor x =
      at::ones({1, layout.shard_tokens(counted), 1, 1}, at::kDouble)
          .set_requires_grad(true);
  kernel.calls = 0;
  const at::Tensor out = attention(x, x, x, plan, communicator).out;
  calls.forward = kernel.calls;
  static_cast<void>(torch::autograd::grad({out.sum()}, {x}));
  calls.both = kernel.calls;
  kernel.enabled = false;
  return calls;
}

TEST(KernelCalls, AreOnePerStepUnderAFullMask) {
  const Layout layout = Layout::contiguous(8 * 21, 8);
  for (const char* strategy : {"ring", "multi_ring", "direct:7"}) {
    for (Rank rank = 0; rank < 8; ++rank) {
      SCOPED_TRACE(fmt::format("{} on rank {}", strategy, rank));
      const Calls calls = count_calls(strategy, layout, Mask::full(), rank);
      EXPECT_EQ(calls.forward, 1 + 7);
      EXPECT_EQ(calls.both, 2 * (1 + 7));
    }
  }
}

TEST(KernelCalls, AreTwoPerStepUnderACausalMaskOnZigzag) {
  const Layout layout = Layout::zigzag(8 * 42, 8);
  struct Bound {
    const char* strategy;
    int steps;
    int per_step;
  };
  for (const Bound& bound :
       {Bound{"multi_ring", 7, 2}, Bound{"time_varying_multi_ring", 7, 2},
        Bound{"direct:7", 7, 2}, Bound{"hierarchical:nodes=2", 7, 3}}) {
    for (Rank rank = 0; rank < 8; ++rank) {
      SCOPED_TRACE(fmt::format("{} on rank {}", bound.strategy, rank));
      const Calls calls =
          count_calls(bound.strategy, layout, Mask::causal(), rank);
      EXPECT_LE(calls.forward, 1 + bound.per_step * bound.steps);
      EXPECT_LE(calls.both, 2 * (1 + bound.per_step * bound.steps));
    }
  }
}

/// Bytes that this thread has allocated for tensors, and not freed.
class LiveBytes final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t size, std::size_t, std::size_t,
                         c10::Device) override {
    bytes_ += size;
  }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
};

// Scratch belongs to the communicator, so a layer leaves nothing behind but its
// output, the sums of its softmax, and the keys that backward finds retained.
// Backward leaves nothing, though the graph lives on.
TEST(LiveBytes, OfALayerAreWhatItsBackwardNeeds) {
  const Layout layout = Layout::zigzag(8 * 42, 8);
  constexpr std::int64_t kLayers = 4, kHeads = 4, kKvHeads = 2, kDim = 8;
  for (const char* strategy : {"ring", "multi_ring", "all_gather"}) {
    SCOPED_TRACE(strategy);
    comm::run_ranks(8, [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
      comm::Communicator communicator(std::move(wire));
      const auto plan =
          make_attention_plan({schedule::strategy_from_name(strategy), layout,
                               layout, Mask::causal()},
                              rank);
      const std::int64_t tokens = layout.shard_tokens(rank);
      const at::Tensor q = at::ones({1, tokens, kHeads, kDim}, at::kFloat)
                               .set_requires_grad(true);
      const at::Tensor k = at::ones({1, tokens, kKvHeads, kDim}, at::kFloat)
                               .set_requires_grad(true);
      const auto live = std::make_shared<LiveBytes>();
      const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
      at::Tensor x = q;
      for (int layer = 0; layer < kLayers; ++layer) {
        x = attention(x, k, k, plan, communicator).out;
      }
      const std::int64_t out = tokens * kHeads * kDim * 4;
      const std::int64_t lse = tokens * kHeads * 4;
      const std::int64_t kept =
          plan->forward.kept_size * 2 * kKvHeads * kDim * 4;
      EXPECT_EQ(live->bytes(), kLayers * (out + lse + kept));
      static_cast<void>(torch::autograd::grad({x.sum()}, {q, k}));
      EXPECT_EQ(live->bytes(), out);  // x's own
      // Retained are at most all keys and values of the other ranks.
      EXPECT_LE(plan->forward.kept_size, 7 * tokens);
    });
  }
}

}  // namespace
}  // namespace ringweave::attention
