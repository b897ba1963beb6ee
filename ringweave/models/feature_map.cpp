#include "ringweave/models/feature_map.h"

#include <cmath>

#include <ATen/ATen.h>

namespace ringweave::models {

at::Tensor square_features(const at::Tensor& x) {
  const at::Tensor pairs =
      at::triu_indices(x.size(-1), x.size(-1), 0,
                       at::TensorOptions(at::kLong).device(x.device()));
  const at::Tensor first = pairs[0];
  const at::Tensor second = pairs[1];
  // A product of two different numbers stands for both of its orders.
  const at::Tensor weights =
      at::ones({pairs.size(1)}, x.options().requires_grad(false))
          .masked_fill_(first != second, std::sqrt(2.0));
  return x.index_select(-1, first) * x.index_select(-1, second) * weights;
}

at::Tensor normalised_attention(const at::Tensor& phi_q,
                                const at::Tensor& phi_k, const at::Tensor& v,
                                double eps, const Context& context) {
  const std::int64_t dim = v.size(3);
  const at::Tensor ones =
      at::ones({v.size(0), v.size(1), v.size(2), 1}, phi_q.options());
  const at::Tensor sums = linear_attention(
      phi_q, phi_k, at::cat({v.to(phi_q.scalar_type()), ones}, 3),
      linear_attention::Decay::none, {}, context);
  return (sums.narrow(3, 0, dim) / (sums.narrow(3, dim, 1) + eps))
      .to(v.scalar_type());
}

}  // namespace ringweave::models
