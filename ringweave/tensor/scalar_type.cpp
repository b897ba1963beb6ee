#include "ringweave/tensor/scalar_type.h"

#include "ringweave/base/error.h"

namespace ringweave::tensor {

at::ScalarType scalar_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return at::kDouble;
    case ElementType::float32:
      return at::kFloat;
    case ElementType::bfloat16:
      return at::kBFloat16;
    case ElementType::float16:
      return at::kHalf;
  }
  throw InternalError("bug in ringweave: a type that torch does not have");
}

std::optional<ElementType> element_type(at::ScalarType type) {
  for (const ElementType known :
       {ElementType::float64, ElementType::float32, ElementType::bfloat16,
        ElementType::float16}) {
    if (scalar_type(known) == type) return known;
  }
  return std::nullopt;
}

at::ScalarType accumulate_type(at::ScalarType type) {
  return scalar_type(ringweave::accumulate_type(
      element_type(type).value_or(ElementType::float32)));
}

}  // namespace ringweave::tensor
