#include "ringweave/generate/sampler.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::generate {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr int kDraws = 20'000;

/// How often each token comes.
std::map<std::int64_t, int> counts(const at::Tensor& logits,
                                   const Sampling& sampling) {
  std::map<std::int64_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    ++counts[choose(logits, sampling, static_cast<std::uint64_t>(i)).token];
  }
  return counts;
}

/// Of probabilities, as logits with some offset.
at::Tensor logits_of(std::vector<double> probabilities) {
  return at::log(at::tensor(probabilities, at::kDouble)) + 3.5;
}

TEST(Sampler, WithoutTemperatureTheLikeliestOfTheLowestId) {
  EXPECT_EQ(choose(at::tensor({1.0, 3.0, 3.0, 2.0}), {}, 0).token, 1);
  EXPECT_EQ(choose(at::tensor({-1e30, -2e30}), {}, 0).token, 0);
}

TEST(Sampler, LogProbabilityIsTheModels) {
  const at::Tensor logits = logits_of({0.1, 0.7, 0.2});
  const Choice greedy = choose(logits, {}, 0);
  EXPECT_NEAR(greedy.log_probability, std::log(0.7), 1e-12);
  const Choice drawn =
      choose(logits, {.temperature = 9, .top_k = 2, .top_p = 0.9}, 4);
  EXPECT_NEAR(drawn.log_probability, std::log(drawn.token == 1 ? 0.7 : 0.2),
              1e-12);
}

TEST(Sampler, DrawsAreThoseOfTheDistribution) {
  const std::vector<double> probabilities = {0.1, 0.5, 0.15, 0.25};
  for (const double temperature : {1.0, 0.5, 2.0}) {
    std::vector<double> want;
    double sum = 0;
    for (const double p : probabilities) {
      want.push_back(std::pow(p, 1 / temperature));
      sum += want.back();
    }
    auto got = counts(logits_of(probabilities), {.temperature = temperature});
    for (std::size_t i = 0; i < want.size(); ++i) {
      const double p = want[i] / sum;
      // Five standard deviations.
      EXPECT_NEAR(got[static_cast<std::int64_t>(i)], kDraws * p,
                  5 * std::sqrt(kDraws * p * (1 - p)));
    }
  }
}

TEST(Sampler, TopKAndTopPLeaveTheLikeliest) {
  const at::Tensor logits = logits_of({0.1, 0.4, 0.2, 0.3});
  const auto tokens = [&](const Sampling& sampling) {
    std::set<std::int64_t> tokens;
    for (const auto& [token, count] : counts(logits, sampling)) {
      tokens.insert(token);
    }
    return tokens;
  };
  using Set = std::set<std::int64_t>;
  EXPECT_EQ(tokens({.temperature = 1, .top_k = 2}), (Set{1, 3}));
  EXPECT_EQ(tokens({.temperature = 1, .top_k = 9}), (Set{0, 1, 2, 3}));
  EXPECT_EQ(tokens({.temperature = 1, .top_p = 0.65}), (Set{1, 3}));
  EXPECT_EQ(tokens({.temperature = 1, .top_p = 0.75}), (Set{1, 2, 3}));
  EXPECT_EQ(tokens({.temperature = 1, .top_p = 1e-9}), (Set{1}));
  // Of the three likeliest, 0.4 is less than half.
  EXPECT_EQ(tokens({.temperature = 1, .top_k = 3, .top_p = 0.44}), (Set{1}));
  EXPECT_EQ(tokens({.temperature = 1, .top_k = 3, .top_p = 0.5}), (Set{1, 3}));
}

TEST(Sampler, DrawsDependOnSeedAndIndexAlone) {
  const at::Tensor logits = at::zeros({50}, at::kDouble);
  std::vector<std::int64_t> once, again, other;
  for (std::uint64_t i = 0; i < 40; ++i) {
    once.push_back(choose(logits, {.temperature = 1, .seed = 3}, i).token);
  }
  for (std::uint64_t i = 40; i-- > 0;) {
    again.push_back(choose(logits, {.temperature = 1, .seed = 3}, i).token);
    other.push_back(choose(logits, {.temperature = 1, .seed = 4}, i).token);
  }
  std::reverse(again.begin(), again.end());
  EXPECT_EQ(once, again);
  EXPECT_NE(once, other);
  // A fixed value, lest it changes unseen.
  EXPECT_DOUBLE_EQ(uniform(0, 0), uniform(0, 0));
  for (std::uint64_t i = 0; i < 1000; ++i) {
    EXPECT_GT(uniform(7, i), 0);
    EXPECT_LE(uniform(7, i), 1);
  }
}

TEST(Sampler, WhatCannotBeDrawnIsRefused) {
  const auto refused = [](const Sampling& sampling, const char* text) {
    EXPECT_THAT([&] { check(sampling); },
                ThrowsMessage<InvalidArgument>(HasSubstr(text)));
  };
  refused({.temperature = -1}, "[temperature] got -1");
  refused({.temperature = std::nan("")}, "[temperature] got nan");
  refused({.top_k = -1}, "[top_k] got -1");
  refused({.top_p = 0}, "[top_p] got 0");
  refused({.top_p = 1.1}, "[top_p] got 1.1");
  refused({.top_p = std::nan("")}, "[top_p] got nan");
  const double infinite = std::numeric_limits<double>::infinity();
  for (const double bad : {std::nan(""), infinite}) {
    EXPECT_THROW(choose(at::tensor({1.0, bad}), {}, 0), Error);
  }
  EXPECT_THROW(choose(at::tensor({-infinite, -infinite}), {}, 0), Error);
  EXPECT_EQ(choose(at::tensor({-infinite, 0.0}), {.temperature = 1}, 0).token,
            1);
}

}  // namespace
}  // namespace ringweave::generate
