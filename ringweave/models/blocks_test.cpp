// The parts of a block that need no communication.
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/models/lightning.h"
#include "ringweave/models/mixer.h"
#include "ringweave/models/rms_norm.h"
#include "ringweave/models/rope.h"
#include "ringweave/models/swiglu.h"

namespace ringweave::models {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

at::Tensor normal(at::IntArrayRef shape) {
  auto generator = at::detail::createCPUGenerator(3);
  return at::randn(shape, generator, at::kDouble);
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

TEST(Rope, PositionZeroDoesNotTurnAndLengthsStay) {
  const RopeTables tables = make_rope({0, 7, 1000000}, 8, 10000.0, at::kDouble);
  const at::Tensor x = normal({2, 3, 2, 8});
  const at::Tensor y = rope(x, tables);
  EXPECT_EQ(largest(y.select(1, 0) - x.select(1, 0)), 0.0);
  EXPECT_LE(largest(y.pow(2).sum(3) - x.pow(2).sum(3)), 1e-12);
}

TEST(Rope, TurnsPairsByThePositionsAngle) {
  const RopeTables tables = make_rope({5}, 4, 100.0, at::kDouble);
  const at::Tensor x = at::tensor({1.0, 2.0, 3.0, 4.0}).view({1, 1, 1, 4});
  const at::Tensor y = rope(x.to(at::kDouble), tables);
  const double a = 5.0;         // 5 · 100^0
  const double b = 5.0 / 10.0;  // 5 · 100^(-2/4)
  const at::Tensor want = at::tensor(
      {1 * std::cos(a) - 3 * std::sin(a), 2 * std::cos(b) - 4 * std::sin(b),
       3 * std::cos(a) + 1 * std::sin(a), 4 * std::cos(b) + 2 * std::sin(b)},
      at::kDouble);
  EXPECT_LE(largest(y.view({4}) - want), 1e-14);
}

TEST(Rope, ScoresDependOnDistancesOnly) {
  const at::Tensor q = normal({1, 1, 1, 6});
  const at::Tensor k = normal({2, 1, 1, 6}).narrow(0, 1, 1);
  const auto score = [&](std::int64_t m, std::int64_t n) {
    return (rope(q, make_rope({m}, 6, 500.0, at::kDouble)) *
            rope(k, make_rope({n}, 6, 500.0, at::kDouble)))
        .sum()
        .item<double>();
  };
  EXPECT_NEAR(score(9, 4), score(1005, 1000), 1e-10);
  EXPECT_GT(std::abs(score(9, 4) - score(9, 5)), 1e-3);
}

TEST(Rope, GradientTurnsBack) {
  const RopeTables tables = make_rope({2, 3}, 6, 50.0, at::kDouble);
  const at::Tensor x = normal({1, 2, 3, 6}).requires_grad_(true);
  const at::Tensor direction = normal({1, 2, 3, 6}).flip(1);
  (rope(x, tables) * direction).sum().backward();
  // For a linear map f: <f(x), d> = <x, gradient>, for every x.
  const at::Tensor other = normal({1, 2, 3, 6}).flip(3);
  EXPECT_NEAR((rope(other, tables) * direction).sum().item<double>(),
              (other * x.grad()).sum().item<double>(), 1e-12);
}

TEST(Rope, KeepsBfloat16AndTakesNoTokens) {
  const RopeTables none = make_rope({}, 4, 10.0, at::kFloat);
  const at::Tensor x = at::zeros({2, 0, 3, 4}, at::kBFloat16);
  EXPECT_EQ(rope(x, none).sizes(), x.sizes());
  EXPECT_EQ(rope(x, none).scalar_type(), at::kBFloat16);
}

TEST(RmsNorm, ComputesInTheWeightsType) {
  const at::Tensor x = normal({3, 5});
  const at::Tensor weight = normal({5});
  const at::Tensor want = x / (x.pow(2).mean(1, true) + 0.1).sqrt() * weight;
  EXPECT_LE(largest(rms_norm(x, weight, 0.1) - want), 1e-14);
  // Squares of these overflow bf16's relatives only if not computed in fp32.
  const at::Tensor big = at::full({2, 4}, 300.0, at::kBFloat16);
  const at::Tensor y = rms_norm(big, at::ones({4}, at::kFloat), 1e-5);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(largest(y.to(at::kFloat) - 1), 0.0);
}

TEST(Alibi, SlopesOfAPowerOfTwo) {
  EXPECT_THAT(alibi_slopes(8),
              Pointwise(DoubleNear(1e-15), {0.5, 0.25, 0.125, 0.0625, 0.03125,
                                            0.015625, 0.0078125, 0.00390625}));
  EXPECT_THAT(alibi_slopes(1), ElementsAre(std::exp2(-8.0)));
}

TEST(Alibi, OtherCountsTakeEverySecondOfTwiceAsMany) {
  EXPECT_THAT(alibi_slopes(3),
              Pointwise(DoubleNear(1e-15), {1.0 / 16, 1.0 / 256, 1.0 / 4}));
  EXPECT_THAT(alibi_slopes(6),
              Pointwise(DoubleNear(1e-15),
                        {std::exp2(-2.0), std::exp2(-4.0), std::exp2(-6.0),
                         std::exp2(-8.0), std::exp2(-1.0), std::exp2(-3.0)}));
}

TEST(Lightning, DecayFallsWithDepthAndNeverVanishes) {
  const auto first = lightning_decay(4, 0, 3);
  const auto middle = lightning_decay(4, 1, 3);
  const auto last = lightning_decay(4, 2, 3);
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_LT(first[h], middle[h]);
    EXPECT_LT(middle[h], last[h]);
    EXPECT_LT(last[h], 0.0);
  }
  EXPECT_NEAR(first[0], -0.25 * (1 + 1e-5), 1e-15);
  EXPECT_NEAR(middle[0], -0.25 * (0.5 + 1e-5), 1e-15);
  EXPECT_LT(lightning_decay(2, 0, 1)[0], 0.0);  // one layer: no division by 0
}

TEST(Swiglu, IsDownOfSiluGateTimesUp) {
  ModelConfig config;
  config.hidden = 3;
  config.intermediate = 5;
  ParameterMaker maker(1, ElementType::float64);
  const Swiglu weights = make_swiglu(config, "mlp.", maker);
  ASSERT_EQ(maker.parameters().size(), 3u);
  EXPECT_EQ(maker.parameters()[2].name, "mlp.down_proj.weight");
  const at::Tensor x = normal({2, 4, 3}) * 30;
  const at::Tensor gate = at::matmul(x, weights.gate.t());
  const at::Tensor want =
      at::matmul(gate / (1 + at::exp(-gate)) * at::matmul(x, weights.up.t()),
                 weights.down.t());
  EXPECT_LE(largest(swiglu(x, weights) - want), 1e-12);
  EXPECT_GT(largest(want), 1e-3);
}

TEST(Heads, AreJoinedInOrder) {
  const at::Tensor x = at::arange(8, at::kDouble);
  EXPECT_TRUE(join_heads(x.view({1, 1, 4, 2})).view({8}).equal(x));
}

TEST(Init, ResidualProjectionsShrinkWithDepth) {
  ModelConfig config;
  config.layers = 8;
  EXPECT_DOUBLE_EQ(residual_std(config), 0.02 / 4);
}

}  // namespace
}  // namespace ringweave::models
