#include "ringweave/convolution/advance.h"

#include <ATen/ATen.h>

#include "ringweave/base/error.h"

namespace ringweave::convolution {

at::Tensor advance(const at::Tensor& x, const at::Tensor& weight,
                   const at::Tensor& bias, const at::Tensor& tails) {
  const std::int64_t reach = weight.size(1) - 1;
  ensure(tails.size(0) == x.size(0) && tails.size(1) == reach,
         "tails of {} sequences and {} inputs for {} sequences and {}",
         tails.size(0), tails.size(1), x.size(0), reach);
  const at::Tensor seen = at::cat({tails, x.unsqueeze(1)}, 1);
  at::Tensor out = (seen.to(weight.scalar_type()) * weight.t()).sum(1);
  if (bias.defined()) out = out + bias;
  tails.copy_(seen.narrow(1, 1, reach));
  return out.to(x.scalar_type());
}

}  // namespace ringweave::convolution
