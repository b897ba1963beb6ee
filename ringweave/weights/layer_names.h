// The names of tensors, which say of which layer they are.
#pragma once

#include <string>
#include <vector>

#include "ringweave/config/model_config.h"

namespace ringweave::weights {

/// Whether the tensor of that name is of a linear layer's mixer, and none that
/// the attention of Llama has as well.
bool is_linear_alone(const config::ModelConfig& model, const std::string& name);

/// Whether it projects queries, keys or values of a linear layer whose family
/// has those of its own size.
bool is_own_size(const config::ModelConfig& model, const std::string& name);

/// Names as a person reads them, layers with the same tensor in one:
/// "model.layers.0-2,5.mlp.up_proj.weight". In the order of the first of each;
/// the layers of one tensor must ascend.
std::vector<std::string> by_layers(const std::vector<std::string>& names);

}  // namespace ringweave::weights
