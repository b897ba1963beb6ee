// What a run promises, for every family of linear layers, pure and hybrid, with
// short convolutions, and for encoders.
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/checkpoint/test_folder.h"
#include "ringweave/train/test_run.h"

namespace ringweave::train {
namespace {

using checkpoint::TestFolder;
using ::testing::Lt;

/// Where normalisers of rebased are near 0 rounding grows, to 1e-15 … 1e-7 in
/// 50 steps by the weights that a seed draws. This one's are well conditioned.
constexpr std::int64_t kSeed = 2;

/// Six steps in one go, and stopped after the fourth.
void expect_goes_on(TrainConfig config, const TestFolder& run) {
  config.steps = 6;
  Saving saving{.run = run.path(), .resume = {}, .data = "d", .versions = {}};
  const std::vector<double> whole = train(config).losses();
  std::vector<double> parts = train(config, saving, 4).losses();
  saving.resume = 4;
  const std::vector<double> rest = train(config, saving).losses();
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
}

class Families
    : public ::testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  static TrainConfig config(int ranks) {
    const auto& [family, convolution] = GetParam();
    TrainConfig config = tiny(ranks, ElementType::float64);
    config.seed = kSeed;
    config.model.layers = 2;
    config.model.pattern = convolution ? "LN" : "L";
    config.model.linear = config::LinearConfig(family);
    if (convolution) config.model.linear.set("convolution", 4);
    return config;
  }
};

TEST_P(Families, FourRanksFollowOne) {
  const Log one = train(config(1));
  ASSERT_EQ(one.steps.size(), 50u);
  expect_alike(train(config(4)), one);
  EXPECT_THAT(one.steps.back().loss, Lt(one.steps.front().loss - 0.3));
}

TEST_P(Families, GoOnWithTheSameBits) {
  const TestFolder run("families");
  expect_goes_on(config(3), run);
}

// However unevenly masked tokens fall on ranks.
TEST(Encoder, FollowsOneRankAndGoesOnWithTheSameBits) {
  for (const char* pattern : {"L", "LN", "N"}) {
    SCOPED_TRACE(pattern);
    TrainConfig config = tiny(1, ElementType::float64);
    config.model.layers = 2;
    config.model.pattern = pattern;
    config.model.linear = config::LinearConfig("basic");
    config.model.causal = false;
    config.model.vocab_size = 258;
    config.validation = {.every = 20, .batches = 3};
    const Log one = train(config);
    ASSERT_EQ(one.steps.size(), 50u);
    EXPECT_THAT(one.steps.back().loss, Lt(one.steps.front().loss - 0.5));

    config.parallel.ranks = 4;
    expect_alike(train(config), one);
    config.parallel.layout = "contiguous";
    config.parallel.ranks = 3;
    config.parallel.data = 3;
    expect_alike(train(config), one);
    config.parallel.data = 1;
    config.parallel.accumulation = 3;
    config.parallel.shard_optimizer = true;
    expect_alike(train(config), one);

    const TestFolder run("encoder");
    expect_goes_on(config, run);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Train, Families,
    ::testing::Combine(::testing::ValuesIn(config::linear_family_names()),
                       ::testing::Bool()),
    [](const auto& info) {
      return std::get<0>(info.param) +
             (std::get<1>(info.param) ? "_hybrid_with_convolutions" : "");
    });

}  // namespace
}  // namespace ringweave::train
