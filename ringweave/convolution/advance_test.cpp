#include "ringweave/convolution/advance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ringweave/convolution/problems.h"

namespace ringweave::convolution {
namespace {

TEST(Advance, IsTheConvolutionTokenByToken) {
  for (const std::int64_t width : {1, 2, 4}) {
    const Problem p = make_problem(7, width, Mask::causal(), true);
    const Everything want = by_loop(p);
    at::Tensor tails = p.state.clone();
    for (std::int64_t t = 0; t < 7; ++t) {
      const at::Tensor out = advance(p.x.select(1, t), p.weight, p.bias, tails);
      expect_close(out, want.out.select(1, t), 1e-12, "out");
    }
    expect_close(tails, want.final_state, 1e-12, "tails");
  }
}

TEST(Advance, KeepsTheTypeOfItsInputs) {
  const Problem p = make_problem(1, 4, Mask::causal(), true, at::kBFloat16);
  at::Tensor tails = p.state.clone();
  const at::Tensor out = advance(p.x.select(1, 0), p.weight, {}, tails);
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  EXPECT_EQ(tails.scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace ringweave::convolution
