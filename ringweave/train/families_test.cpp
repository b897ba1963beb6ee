// What a run promises, for every family of linear layers: pure and hybrid
// models, with short convolutions.
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

class Families
    : public ::testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  static TrainConfig config(int ranks) {
    const auto& [family, convolution] = GetParam();
    TrainConfig config = tiny(ranks, ElementType::float64);
    config.model.layers = 2;
    config.model.pattern = convolution ? "LN" : "L";
    config.model.linear = config::LinearConfig(family);
    if (convolution) config.model.linear.set("convolution", 4);
    return config;
  }
};

TEST_P(Families, FourRanksFollowOne) {
  const Log one = train(config(1));
  const Log four = train(config(4));
  ASSERT_EQ(one.steps.size(), 50u);
  ASSERT_EQ(four.steps.size(), 50u);
  for (std::size_t i = 0; i < one.steps.size(); ++i) {
    EXPECT_NEAR(four.steps[i].loss, one.steps[i].loss, 1e-9) << i;
    EXPECT_NEAR(four.steps[i].grad_norm / one.steps[i].grad_norm, 1, 1e-9) << i;
  }
  EXPECT_THAT(one.steps.back().loss, Lt(one.steps.front().loss - 0.3));
}

TEST_P(Families, GoOnWithTheSameBits) {
  const TestFolder run("families");
  TrainConfig config = Families::config(3);
  config.steps = 6;
  const Saving saving = {
      .run = run.path(), .resume = {}, .data = "d", .versions = {}};
  const std::vector<double> whole = train(config).losses();
  std::vector<double> parts = train(config, saving, 4).losses();
  Saving again = saving;
  again.resume = 4;
  const std::vector<double> rest = train(config, again).losses();
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
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
