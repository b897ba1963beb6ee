// Root mean square norm over the last dimension.
#pragma once

#include <ATen/core/Tensor.h>

namespace ringweave::models {

/// x / sqrt(mean(x²) + eps) · weight, computed in the weight's type (fp32 or
/// fp64) and returned in x's. weight: (last dimension of x).
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

}  // namespace ringweave::models
