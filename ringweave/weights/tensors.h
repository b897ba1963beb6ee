// torch's tensors as those of files, and back.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "ringweave/checkpoint/safetensors.h"

namespace ringweave::weights {

/// Of the types of weights, and int64. Another one is an InternalError.
at::ScalarType scalar_type(checkpoint::DataType type);
/// The reverse, of those that something here computes in, and int64.
checkpoint::DataType data_type(at::ScalarType type);

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
