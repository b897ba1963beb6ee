// torch's tensors as those of files, and back.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "ringweave/checkpoint/safetensors.h"

namespace ringweave::weights {

/// Of the types of weights.
at::ScalarType scalar_type(checkpoint::DataType type);

/// Name, type and shape, without data.
checkpoint::NamedTensor described(const std::string& name,
                                  const at::Tensor& tensor);

/// With a view of the data; `tensor` must be contiguous and outlive it.
checkpoint::NamedTensor named(const std::string& name,
                              const at::Tensor& tensor);

/// A copy of the data.
at::Tensor read(const checkpoint::NamedTensor& tensor);

/// Sets `tensor`, which must be contiguous and of the same shape, to `from`,
/// rounded to its type. Autograd does not see it.
void copy(const checkpoint::NamedTensor& from, const at::Tensor& tensor);

}  // namespace ringweave::weights
