#include "ringweave/attention/packing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace ringweave::attention {
namespace {

using schedule::Program;

constexpr KvShape kShape = {.batch = 2, .kv_heads = 3, .head_dim = 4};

KvPair random_pair(std::int64_t tokens, at::ScalarType type) {
  return {at::randn({kShape.batch, tokens, kShape.kv_heads, kShape.head_dim})
              .to(type),
          at::randn({kShape.batch, tokens, kShape.kv_heads, kShape.head_dim})
              .to(type)};
}

at::Tensor wire(std::int64_t tokens, at::ScalarType type) {
  return at::zeros({tokens, 2, kShape.batch, kShape.kv_heads, kShape.head_dim},
                   type);
}

/// Two stripes, and a run between them.
const std::vector<Program::Packed> kRuns = {
    {0, {0, 3, 2}}, {3, {6, 4, 1}}, {7, {1, 3, 2}}};

TEST(Packing, PutsTokensSideBySideWithKeysAndValuesOfEach) {
  for (const at::ScalarType type :
       {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const KvPair own = random_pair(10, type);
    const at::Tensor packed = wire(10, type);
    pack(own, kRuns, packed);
    for (const Program::Packed& run : kRuns) {
      for (std::int64_t i = 0; i < run.local.length; ++i) {
        const at::Tensor token = packed[run.begin + i];
        EXPECT_TRUE(at::equal(token[0], own.k.select(1, run.local.at(i))));
        EXPECT_TRUE(at::equal(token[1], own.v.select(1, run.local.at(i))));
      }
    }
    const KvPair back = random_pair(10, type);
    unpack(packed, kRuns, back);
    EXPECT_TRUE(at::equal(back.k, own.k));
    EXPECT_TRUE(at::equal(back.v, own.v));
  }
}

TEST(Packing, TakesAnyStridesAndRoundsOnce) {
  const KvPair own = random_pair(10, at::kFloat);
  const auto heads_outside = [](const at::Tensor& x) {
    return x.transpose(1, 2).contiguous().transpose(1, 2);
  };
  const auto spread = [](const at::Tensor& x) {
    return x.transpose(1, 3).contiguous().transpose(1, 3);
  };
  const at::Tensor want = wire(10, at::kFloat);
  pack(own, kRuns, want);
  for (const KvPair& same : {KvPair{heads_outside(own.k), heads_outside(own.v)},
                             KvPair{spread(own.k), spread(own.v)}}) {
    const at::Tensor packed = wire(10, at::kFloat);
    pack(same, kRuns, packed);
    EXPECT_TRUE(at::equal(packed, want));
    const at::Tensor rounded = wire(10, at::kBFloat16);
    pack(same, kRuns, rounded);
    EXPECT_TRUE(at::equal(rounded, want.to(at::kBFloat16)));
  }
}

TEST(Packing, GradientsArePutOrAdded) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const KvPair gradients = random_pair(6, at::kFloat);
    const at::Tensor there = wire(9, type);
    there.fill_(1);
    const KvPair place = view(there, {2, 5});
    put(gradients, {1, 3, 2}, there, 2, /*add=*/false);
    const KvPair some = take(gradients, {1, 3, 2});
    EXPECT_TRUE(at::equal(place.k, some.k.to(type)));
    EXPECT_TRUE(at::equal(place.v, some.v.to(type)));
    put(gradients, {1, 3, 2}, there, 2, /*add=*/true);
    EXPECT_TRUE(at::equal(place.k, some.k.to(type) + some.k.to(type)));
    EXPECT_TRUE(there.narrow(0, 0, 2).eq(1).all().item<bool>());
    EXPECT_TRUE(there.narrow(0, 5, 4).eq(1).all().item<bool>());
  }
}

TEST(Packing, AViewIsWhatAKernelTakes) {
  const at::Tensor packed = wire(5, at::kDouble);
  packed.copy_(at::randn(packed.sizes(), at::kDouble));
  const KvPair keys = view(packed, {1, 4});
  EXPECT_EQ(keys.k.sizes(), (std::vector<std::int64_t>{2, 3, 3, 4}));
  EXPECT_EQ(keys.k.stride(-1), 1);
  EXPECT_TRUE(at::equal(keys.v.select(1, 2), packed[3][1]));
}

}  // namespace
}  // namespace ringweave::attention
