#include "ringweave/models/rms_norm.h"

#include <ATen/ATen.h>

namespace ringweave::models {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return at::rms_norm(x.to(weight.scalar_type()), weight.sizes(), weight, eps)
      .to(x.scalar_type());
}

}  // namespace ringweave::models
