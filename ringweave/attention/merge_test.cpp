#include "ringweave/attention/merge.h"

#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace ringweave::attention {
namespace {

Partial random_partial(std::int64_t rows, at::ScalarType type) {
  // lse as a kernel leaves it: a view of (batch, rows, heads).
  return {at::randn({2, rows, 3, 5}, type),
          at::randn({2, rows, 3}, type).transpose(1, 2)};
}

TEST(Merge, IsTheSoftmaxOverBoth) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const Partial total = random_partial(7, type);
    const Partial part = random_partial(7, type);
    const at::Tensor lse = at::logaddexp(total.lse, part.lse);
    const auto weight = [&](const at::Tensor& own) {
      return (own - lse).exp().transpose(1, 2).unsqueeze(-1);
    };
    const at::Tensor out =
        total.out * weight(total.lse) + part.out * weight(part.lse);
    merge_into(total, part);
    const double tolerance = type == at::kDouble ? 1e-14 : 1e-6;
    EXPECT_TRUE(at::allclose(total.lse, lse, 0, tolerance));
    EXPECT_TRUE(at::allclose(total.out, out, 0, tolerance));
  }
}

// Any layout of numbers, on either side, gives what the fast one gives.
TEST(Merge, TakesAnyStrides) {
  const Partial total = random_partial(7, at::kDouble);
  const Partial part = random_partial(7, at::kDouble);
  const auto strided = [](const Partial& x) -> Partial {
    return {x.out.transpose(1, 3).contiguous().transpose(1, 3), x.lse.clone()};
  };
  const auto merged = [&](const Partial& to, const Partial& from) {
    const Partial result = {to.out.clone(at::MemoryFormat::Preserve),
                            to.lse.clone()};
    merge_into(result, from);
    return result;
  };
  const Partial want = merged(total, part);
  for (const Partial& got :
       {merged(strided(total), part), merged(total, strided(part)),
        merged(strided(total), strided(part))}) {
    EXPECT_TRUE(at::allclose(got.out, want.out, 0, 1e-14));
    EXPECT_TRUE(at::allclose(got.lse, want.lse, 0, 1e-14));
  }
}

TEST(Merge, ANanStays) {
  const Partial part = random_partial(4, at::kDouble);
  for (const bool in_total : {true, false}) {
    const Partial total = random_partial(4, at::kDouble);
    (in_total ? total : part).lse[0][0][0] =
        std::numeric_limits<double>::quiet_NaN();
    merge_into(total, part);
    EXPECT_TRUE(total.lse[0][0][0].isnan().item<bool>());
    EXPECT_TRUE(total.out[0][0][0].isnan().all().item<bool>());
    EXPECT_EQ(total.lse.isnan().sum().item<int>(), 1);
  }
}

TEST(Merge, RowsWithoutKeysTakeTheOtherSide) {
  const Partial part = random_partial(4, at::kDouble);
  const Partial total = random_partial(4, at::kDouble);
  clear(total);
  merge_into(total, part);
  EXPECT_TRUE(at::equal(total.out, part.out));
  EXPECT_TRUE(at::equal(total.lse, part.lse));
  const Partial nothing = random_partial(4, at::kDouble);
  clear(nothing);
  merge_into(total, nothing);
  EXPECT_TRUE(at::equal(total.out, part.out));
  EXPECT_TRUE(at::equal(total.lse, part.lse));
  merge_into(nothing, nothing);
  EXPECT_TRUE(nothing.out.eq(0).all().item<bool>());
  EXPECT_TRUE(nothing.lse.isneginf().all().item<bool>());
}

TEST(Merge, WritesViewsOfRowsInPlace) {
  const Partial whole = random_partial(9, at::kDouble);
  const Partial before = {whole.out.clone(), whole.lse.clone()};
  const Partial part = random_partial(4, at::kDouble);
  const Partial some = {whole.out.narrow(1, 3, 4), whole.lse.narrow(2, 3, 4)};
  merge_into(some, part);
  for (const auto& [begin, length] : {std::pair(0, 3), {7, 2}}) {
    EXPECT_TRUE(at::equal(whole.out.narrow(1, begin, length),
                          before.out.narrow(1, begin, length)));
    EXPECT_TRUE(at::equal(whole.lse.narrow(2, begin, length),
                          before.lse.narrow(2, begin, length)));
  }
  EXPECT_FALSE(at::equal(some.out, before.out.narrow(1, 3, 4)));
}

// Differences so large that one side's weight is 0.
TEST(Merge, ExtremeWeightsStayFinite) {
  for (const double far : {-1000.0, 1000.0}) {
    const Partial total = random_partial(2, at::kDouble);
    const Partial part = random_partial(2, at::kDouble);
    total.lse.fill_(far);
    part.lse.fill_(0);
    const Partial winner = far > 0 ? Partial{total.out.clone(), {}} : part;
    merge_into(total, part);
    EXPECT_TRUE(at::equal(total.out, winner.out));
    EXPECT_TRUE(total.lse.eq(std::max(far, 0.0)).all().item<bool>());
  }
}

}  // namespace
}  // namespace ringweave::attention
