// For tests: a small model's weights, in folders of Hugging Face's form and in
// checkpoints.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "ringweave/checkpoint/checkpoint_folder.h"
#include "ringweave/checkpoint/manifest.h"
#include "ringweave/checkpoint/state.h"
#include "ringweave/checkpoint/test_folder.h"
#include "ringweave/checkpoint/weights_folder.h"
#include "ringweave/config/hugging_face.h"
#include "ringweave/config/train_config.h"
#include "ringweave/models/model.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::weights::test {

using checkpoint::DataType;
using checkpoint::TestFolder;
using models::Parameter;

inline config::ModelConfig tiny(const std::string& pattern = "N") {
  config::ModelConfig model;
  model.hidden = 16;
  model.intermediate = 24;
  model.layers = 4;
  model.heads = 4;
  model.kv_heads = 2;
  model.head_dim = 4;
  model.pattern = pattern;
  model.linear = config::LinearConfig("gla");
  return model;
}

/// All weights of the model, in fp64 numbers that `type` holds, large enough
/// that every layer matters.
inline std::vector<Parameter> drawn(const config::ModelConfig& model,
                                    DataType type, std::int64_t seed = 3) {
  const models::Model shapes(model, ElementType::float64, {});
  auto generator =
      at::detail::createCPUGenerator(static_cast<std::uint64_t>(seed));
  std::vector<Parameter> weights;
  for (const auto& [name, value] : shapes.parameters()) {
    const at::Tensor drawn = at::randn(value.sizes(), generator, at::kDouble);
    weights.push_back({name, (value.dim() == 1 ? 1 + 0.3 * drawn : 0.4 * drawn)
                                 .to(scalar_type(type))
                                 .to(at::kDouble)});
  }
  return weights;
}

/// The tensor of `weights` with that name.
inline Parameter& find(std::vector<Parameter>& weights,
                       const std::string& name) {
  return *std::ranges::find(weights, name, &Parameter::name);
}

/// As `folder`/model.safetensors, in place of one that is there.
inline checkpoint::FileSum write(const std::string& folder,
                                 const std::vector<Parameter>& weights,
                                 DataType type = DataType::float64) {
  const std::string file = folder + "/" + checkpoint::kWeightsFile;
  std::filesystem::remove(file);
  std::vector<checkpoint::NamedTensor> tensors;
  std::map<std::string, at::Tensor> values;
  for (const auto& [name, value] : weights) {
    tensors.push_back(
        {.name = name, .type = type, .shape = value.sizes().vec()});
    values[name] = value.to(scalar_type(type)).contiguous();
  }
  const auto bytes = [&](const checkpoint::NamedTensor& tensor) {
    const at::Tensor& value = values.at(tensor.name);
    return std::span(static_cast<const std::byte*>(value.const_data_ptr()),
                     value.nbytes());
  };
  return checkpoint::write_safetensors(file, tensors, bytes);
}

/// As Transformers writes it, of softmax layers.
inline void write_config(const std::string& folder,
                         const config::ModelConfig& model) {
  checkpoint::overwrite(
      folder + "/config.json",
      config::to_hugging_face(model, "float64", /*longest=*/100).dump());
}

/// A checkpoint of the run in `run`, without the optimizer's files. Returns its
/// folder.
inline std::string write_checkpoint(const std::string& run, std::int64_t step,
                                    const config::TrainConfig& config,
                                    const std::vector<Parameter>& weights,
                                    DataType type = DataType::float64) {
  const checkpoint::CheckpointFolder folder(run);
  folder.begin(step);
  const std::string partial = folder.partial_path_of(step);
  const checkpoint::State state{.step = step,
                                .data = "hash",
                                .config = to_json(config),
                                .versions = Json::object()};
  checkpoint::Manifest sums;
  sums[checkpoint::kWeightsFile] = write(partial, weights, type);
  sums[checkpoint::kStateFile] =
      checkpoint::write_durable(partial + "/" + checkpoint::kStateFile,
                                checkpoint::to_json(state).dump());
  checkpoint::write_manifest(partial, sums);
  folder.complete(step);
  return folder.path_of(step);
}

}  // namespace ringweave::weights::test
