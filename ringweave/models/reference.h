// For tests: the model again, on one device, by the plain definitions: a full
// matrix of attention weights, and a loop over tokens for linear layers.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/models/config.h"
#include "ringweave/models/parameters.h"

namespace ringweave::models::test {

/// Mean cross entropy of sequences (batch, tokens + 1) under the parameters.
at::Tensor reference_loss(const ModelConfig& config,
                          const std::vector<Parameter>& parameters,
                          const at::Tensor& sequences);

}  // namespace ringweave::models::test
