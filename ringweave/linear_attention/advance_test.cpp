#include "ringweave/linear_attention/advance.h"

#include <limits>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

namespace ringweave::linear_attention {
namespace {

constexpr std::int64_t kSequences = 3, kKeyDim = 4, kValueDim = 5;

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kDouble);
}

struct HeadCounts {
  std::int64_t q, k, v, gates;
};

/// The definition, head by head.
void expect_recurrence(Decay decay, const HeadCounts& heads) {
  const at::Tensor q = random({kSequences, heads.q, kKeyDim}, 1);
  const at::Tensor k = random({kSequences, heads.k, kKeyDim}, 2);
  const at::Tensor v = random({kSequences, heads.v, kValueDim}, 3);
  at::Tensor gates;
  if (decay == Decay::constant) gates = -random({heads.gates}, 4).abs();
  if (decay == Decay::per_head) {
    gates = -random({kSequences, heads.gates}, 4).abs();
  }
  if (decay == Decay::per_key) {
    gates = -random({kSequences, heads.gates, kKeyDim}, 4).abs();
    gates.select(0, 1).select(0, 0).fill_(
        -std::numeric_limits<double>::infinity());
  }
  const std::int64_t states_count = state_shape(
      q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), decay,
      decay == Decay::constant || decay == Decay::none ? gates
                                                       : gates.unsqueeze(1))[1];
  const at::Tensor before =
      random({kSequences, states_count, kKeyDim, kValueDim}, 5);
  // What a reset leaves must not depend on what was there.
  if (decay == Decay::per_key) {
    before.select(0, 1).select(0, 0).fill_(std::nan(""));
  }
  at::Tensor states = before.clone();
  const double scale = 0.7;
  const at::Tensor out = advance(q, k, v, decay, gates, scale, states);
  const std::int64_t out_heads = std::max(heads.q, states_count);
  ASSERT_EQ(out.sizes(), (std::vector{kSequences, out_heads, kValueDim}));
  for (std::int64_t i = 0; i < kSequences; ++i) {
    const auto of = [&](const at::Tensor& x, std::int64_t s) {
      return x[i][s / (states_count / x.size(1))];
    };
    for (std::int64_t s = 0; s < states_count; ++s) {
      at::Tensor state = before[i][s].clone();
      if (decay == Decay::constant) {
        state = state * gates[s / (states_count / gates.size(0))].exp();
      } else if (decay == Decay::per_head) {
        state = state * of(gates, s).exp();
      } else if (decay == Decay::per_key) {
        const at::Tensor gate = of(gates, s).unsqueeze(1);
        state =
            at::where(gate.isinf(), at::zeros_like(state), state * gate.exp());
      }
      state = state + at::outer(of(k, s), of(v, s));
      EXPECT_TRUE(at::allclose(states[i][s], state, 1e-12, 1e-12));
      for (std::int64_t h = 0; h < out_heads; ++h) {
        if (h / (out_heads / states_count) != s) continue;
        const at::Tensor query = q[i][h / (out_heads / heads.q)];
        EXPECT_TRUE(at::allclose(out[i][h], at::matmul(query, state) * scale,
                                 1e-12, 1e-12));
      }
    }
  }
}

TEST(Advance, IsTheRecurrence) {
  for (const Decay decay :
       {Decay::none, Decay::constant, Decay::per_head, Decay::per_key}) {
    for (const HeadCounts& heads :
         {HeadCounts{2, 2, 2, 2}, HeadCounts{4, 2, 2, 2},
          HeadCounts{6, 1, 3, 2}, HeadCounts{2, 4, 4, 1},
          HeadCounts{4, 2, 2, 4}}) {
      SCOPED_TRACE(testing::Message() << schedule::name(decay) << " " << heads.q
                                      << " " << heads.gates);
      expect_recurrence(decay, heads);
    }
  }
}

}  // namespace
}  // namespace ringweave::linear_attention
