// A family of linear layers that no other file knows of: one decay for all
// heads.
#include <cmath>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/models/qkv.h"
#include "ringweave/models/reference.h"
#include "ringweave/models/split_check.h"

namespace ringweave::models {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr const char* kName = "half_life";

config::LinearFamily family() {
  return {
      .name = kName,
      .fields = {{.name = "half_life", .fallback = 8.0},
                 {.name = "norm", .fallback = "rms", .words = {"rms", "none"}}},
      .decay = schedule::Decay::constant,
      .state = [](const ModelConfig& model) -> config::StateShape {
        return {model.heads, model.head_dim, model.head_dim};
      },
      .weights =
          [](const ModelConfig& model) {
            return static_cast<double>(model.heads);
          }};
}

double log_decay(const ModelConfig& config) {
  return -std::log(2.0) / config.linear.number("half_life");
}

class HalfLife final : public Mixer {
 public:
  HalfLife(const ModelConfig& config, const std::string& prefix,
           ParameterMaker& maker)
      : config_(config),
        weights_(make_linear_projections(config, prefix, maker)),
        scale_(maker.filled(prefix + "head_scale", {config.heads}, 1.0)),
        decay_(at::full({config.heads}, log_decay(config),
                        scale_.options().requires_grad(false))) {}

  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override {
    const auto [q, k, v] = project_qkv(x, weights_, config_, context);
    const at::Tensor out =
        linear_attention(q, k, v, schedule::Decay::constant, decay_, context);
    return project(join_heads(out * scale_.unsqueeze(1)), weights_.o);
  }

 private:
  ModelConfig config_;
  LinearProjections weights_;
  at::Tensor scale_;  ///< (heads)
  at::Tensor decay_;  ///< (heads), fixed
};

std::unique_ptr<Mixer> make_half_life(const ModelConfig& config, std::int64_t,
                                      const std::string& prefix,
                                      ParameterMaker& maker) {
  return std::make_unique<HalfLife>(config, prefix, maker);
}

at::Tensor half_life_reference(const test::ReferenceInput& x) {
  const at::Tensor decay =
      at::full({1, 1, 1, 1}, log_decay(x.config), x.q.options());
  return test::recurrence(x.q, x.k, x.v, decay) *
         x.weight("head_scale").view({1, -1, 1, 1});
}

/// Once for all tests, whatever their order.
void add_family() {
  static const bool added = [] {
    add_linear_family(family(), make_half_life);
    test::add_reference(kName, half_life_reference);
    return true;
  }();
  static_cast<void>(added);
}

TEST(Family, FromOutsideIsExactOnEveryNumberOfRanks) {
  add_family();
  ModelConfig config = test::tiny(kName);
  config.linear.set("half_life", 3);
  test::expect_exact(config, 13, {1, 2, 3, 4, 5, 7, 8}, test::splits());
  for (const std::int64_t tokens : {2, 4}) {
    test::expect_exact(config, tokens, {3, 5}, test::splits());
  }
  config.linear.set("convolution", 3);
  test::expect_exact(config, 13, {1, 3}, {test::splits()[0]});
}

TEST(Family, FromOutsideIsReadAndWrittenAsTheOthers) {
  add_family();
  const auto read = [](const std::string& linear) {
    return config::model_config_from_json(
        Json{{"linear", parse_json(linear, "t")}}, "model");
  };
  const ModelConfig config =
      read(R"({"kind": "half_life", "half_life": 4, "norm": "none"})");
  EXPECT_EQ(config.linear.number("half_life"), 4.0);
  EXPECT_EQ(config::model_config_from_json(to_json(config), "again"), config);
  EXPECT_THAT([&] { read(R"({"kind": "half_life", "gate_rank": 4})"); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[model.linear] got the unknown key")));
  EXPECT_THAT(
      [&] { read(R"({"kind": "half_live"})"); },
      ThrowsMessage<InvalidArgument>(HasSubstr("want one of \"half_life\"")));
  EXPECT_THROW(add_linear_family(family(), make_half_life), InvalidArgument);
}

TEST(Family, EveryRowHasAMixerAndCountsItsWeights) {
  add_family();
  for (const std::string& kind : config::linear_family_names()) {
    for (const bool convolved : {false, true}) {
      ModelConfig config = test::tiny(kind);
      config.tie_embeddings = convolved;
      if (convolved) config.linear.set("convolution", 3);
      const Model model(config, ElementType::float32, 0);
      std::int64_t numbers = 0;
      for (const Parameter& parameter : model.parameters()) {
        numbers += parameter.value.numel();
      }
      EXPECT_EQ(config::weight_count(config), static_cast<double>(numbers))
          << kind;
    }
  }
  ModelConfig config = test::tiny("basic");
  config.linear.set("feature_map", "identity");
  const Model model(config, ElementType::float32, 0);
  std::int64_t numbers = 0;
  for (const Parameter& parameter : model.parameters()) {
    numbers += parameter.value.numel();
  }
  EXPECT_EQ(config::weight_count(config), static_cast<double>(numbers));
}

}  // namespace
}  // namespace ringweave::models
