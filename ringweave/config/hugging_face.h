// The config.json of a folder of Hugging Face weights, as Transformers 4 and 5
// write it, and the model that it describes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ringweave/base/element_type.h"
#include "ringweave/base/json.h"
#include "ringweave/config/model_config.h"

namespace ringweave::config {

/// The model, with the pattern "N". RoPE may stand there as `rope_theta` and
/// `rope_scaling`, or as `rope_parameters`. `path` names the file in errors.
/// Throws InvalidArgument, which names the field, for what ModelConfig can't
/// say: another type of model than llama and mistral, biases, other
/// activations, partial rotary embeddings, other scalings than Llama 3's,
/// windows of single layers, quantized weights. Other fields that this program
/// does not know change nothing that a model computes, and are left alone.
ModelConfig model_config_from_hugging_face(const Json& json,
                                           const std::string& path);

/// The type of activations for the weights' type, which Transformers 5 calls
/// `dtype` and 4 `torch_dtype`. float16, and no type, are float32. Throws
/// InvalidArgument, which names the field, for other types, and for two.
ElementType compute_from_hugging_face(const Json& json,
                                      const std::string& path);

/// `eos_token_id` of a config.json or a generation_config.json, which is one
/// token or a list: each of them ends a text. Empty: null or absent. Throws
/// InvalidArgument, which names the field.
std::vector<std::int64_t> end_tokens_from_hugging_face(const Json& json,
                                                       const std::string& path);

/// A config.json that Transformers 4 and 5 both read. `dtype`: the weights'
/// type, such as "bfloat16". `longest`: what stands for max_position_embeddings
/// if the model has none. Throws InvalidArgument for linear layers and for
/// softmax layers of different windows, which no class of Transformers has.
Json to_hugging_face(const ModelConfig& model, const std::string& dtype,
                     std::int64_t longest);

}  // namespace ringweave::config
