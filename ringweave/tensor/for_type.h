// One piece of code for all types that tensors are computed in.
#pragma once

#include <c10/core/ScalarType.h>

#include "ringweave/base/error.h"

namespace ringweave::tensor {

/// Calls body(T()) with T what a number of `type` is in memory; of a type that
/// element_type() (scalar_type.h) knows.
template <typename Body>
void for_type(at::ScalarType type, const Body& body) {
  switch (type) {
    case at::kDouble:
      return body(double());
    case at::kFloat:
      return body(float());
    case at::kBFloat16:
      return body(at::BFloat16());
    case at::kHalf:
      return body(at::Half());
    default:
      throw InternalError("bug in ringweave: numbers of another type");
  }
}

}  // namespace ringweave::tensor
