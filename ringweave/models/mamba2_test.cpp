#include <map>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/models/split_check.h"

namespace ringweave::models {
namespace {

std::map<std::string, at::Tensor> weights_of(const ModelConfig& config) {
  const Model model(config, ElementType::float64, 1);
  const std::string prefix = "model.layers.0.self_attn.";
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, value] : model.parameters()) {
    if (name.starts_with(prefix)) weights[name.substr(prefix.size())] = value;
  }
  return weights;
}

TEST(Mamba2, BeginsWithTheWeightsOfItsAuthors) {
  ModelConfig config = test::tiny("mamba2", "L");
  config.layers = 1;
  config.heads = config.kv_heads = 256;
  const auto weights = weights_of(config);
  const auto expect_between = [](const at::Tensor& x, double least,
                                 double most) {
    EXPECT_GE(x.min().item<double>(), least);
    EXPECT_LE(x.max().item<double>(), most);
    // Of 256 numbers some are near both ends.
    EXPECT_LE(x.min().item<double>(), least + 0.05 * (most - least));
    EXPECT_GE(x.max().item<double>(), most - 0.05 * (most - least));
  };
  expect_between(weights.at("A_log").exp(), 1, 16);
  expect_between(at::softplus(weights.at("dt_bias")).log10(), -3 - 1e-9,
                 -1 + 1e-9);
  EXPECT_TRUE(weights.at("D").equal(at::ones({256}, at::kDouble)));
  expect_between(weights.at("conv1d.weight"), -0.5, 0.5);
}

TEST(Mamba2, HasTheShapesOfItsConfig) {
  ModelConfig config = test::tiny("mamba2", "L");  // 4 heads of 6, hidden 12
  config.linear.set("convolution", 3);
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& [name, value] : weights_of(config)) {
    shapes[name] = value.sizes().vec();
  }
  const std::map<std::string, std::vector<std::int64_t>> want = {
      {"q_proj.weight", {5, 12}},
      {"k_proj.weight", {5, 12}},
      {"v_proj.weight", {24, 12}},
      {"o_proj.weight", {12, 24}},
      {"g_proj.weight", {24, 12}},
      {"dt_proj.weight", {4, 12}},
      {"conv1d.bias", {34}},
      {"conv1d.weight", {34, 1, 3}},
      {"A_log", {4}},
      {"D", {4}},
      {"dt_bias", {4}},
      {"norm.weight", {24}}};
  EXPECT_EQ(shapes, want);
}

TEST(Mamba2, CannotBeWithoutAConvolution) {
  EXPECT_EQ(config::LinearConfig("mamba2").convolution(), 4);
  EXPECT_THROW(config::LinearConfig("mamba2").set("convolution", 0),
               InvalidArgument);
}

}  // namespace
}  // namespace ringweave::models
