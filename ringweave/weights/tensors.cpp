#include "ringweave/weights/tensors.h"

#include <cstring>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "ringweave/base/error.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::weights {

using checkpoint::DataType;
using checkpoint::NamedTensor;

at::ScalarType scalar_type(DataType type) {
  switch (type) {
    case DataType::float64:
      return at::kDouble;
    case DataType::float32:
      return at::kFloat;
    case DataType::bfloat16:
      return at::kBFloat16;
    case DataType::float16:
      return at::kHalf;
    case DataType::int64:
      return at::kLong;
    case DataType::uint32:
    case DataType::uint16:
      break;
  }
  throw InternalError("bug in ringweave: weights of " + name(type));
}

DataType data_type(at::ScalarType type) {
  return type == at::kLong
             ? DataType::int64
             : checkpoint::data_type(tensor::element_type(type).value());
}

NamedTensor described(const std::string& name, const at::Tensor& tensor) {
  return {.name = name,
          .type = data_type(tensor.scalar_type()),
          .shape = tensor.sizes().vec()};
}

NamedTensor named(const std::string& name, const at::Tensor& tensor) {
  ensure(tensor.is_contiguous(), "{} is not contiguous", name);
  NamedTensor result = described(name, tensor);
  result.data = {static_cast<const std::byte*>(tensor.const_data_ptr()),
                 tensor.nbytes()};
  return result;
}

at::Tensor read(const NamedTensor& tensor) {
  at::Tensor copy = at::empty(tensor.shape, scalar_type(tensor.type));
  // The file need not align numbers.
  std::memcpy(copy.mutable_data_ptr(), tensor.data.data(), tensor.data.size());
  return copy;
}

void copy(const NamedTensor& from, const at::Tensor& tensor) {
  if (scalar_type(from.type) == tensor.scalar_type()) {
    std::memcpy(tensor.mutable_data_ptr(), from.data.data(), from.data.size());
    return;
  }
  const at::NoGradGuard no_gradients;
  tensor.copy_(read(from));
}

}  // namespace ringweave::weights
