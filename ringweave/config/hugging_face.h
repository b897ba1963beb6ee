// The config.json of a folder of Hugging Face weights, as Transformers 4 and 5
// write it, and the model that it describes.
#pragma once

#include <string>

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

/// A config.json that Transformers 4 and 5 both read. `dtype`: the weights'
/// type, such as "bfloat16". `longest`: what stands for max_position_embeddings
/// if the model has none. Throws InvalidArgument for linear layers and for
/// softmax layers of different windows, which no class of Transformers has.
Json to_hugging_face(const ModelConfig& model, const std::string& dtype,
                     std::int64_t longest);

/// `run` is a config of train, still as JSON. If it has an `init.from`, the
/// fields that its `model` lacks become those of that folder's config.json.
/// Throws InvalidArgument, which names the field, if the config says another
/// value than the folder. Free are `pattern`, `linear`, `sliding_windows` and
/// `max_position_embeddings`; with names in `init.skip` also sizes, which the
/// tensors' shapes show.
void take_model_from_folder(Json& run, const std::string& path);

}  // namespace ringweave::config
