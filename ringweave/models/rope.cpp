#include "ringweave/models/rope.h"

#include <cmath>
#include <numbers>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace ringweave::models {
namespace {

at::Tensor turn(const at::Tensor& x, const at::Tensor& cos,
                const at::Tensor& sin) {
  const std::int64_t half = x.size(3) / 2;
  const at::Tensor precise = x.to(cos.scalar_type());
  const at::Tensor a = precise.narrow(3, 0, half);
  const at::Tensor b = precise.narrow(3, half, half);
  // (tokens, 1, half): the same for all heads.
  const at::Tensor c = cos.unsqueeze(1);
  const at::Tensor s = sin.unsqueeze(1);
  const at::Tensor out = at::empty(x.sizes(), precise.options());
  out.narrow(3, 0, half).copy_(a * c).addcmul_(b, s, -1);
  out.narrow(3, half, half).copy_(b * c).addcmul_(a, s);
  return out.to(x.scalar_type());
}

/// `frequencies` in radians per token.
at::Tensor scaled(const at::Tensor& frequencies,
                  const config::RopeScaling& scaling) {
  constexpr double kTurn = 2 * std::numbers::pi;
  const auto tokens =
      static_cast<double>(scaling.original_max_position_embeddings);
  const at::Tensor turns = frequencies * (tokens / kTurn);
  const double low = scaling.low_freq_factor;
  const at::Tensor kept =
      ((turns - low) / (scaling.high_freq_factor - low)).clamp(0, 1);
  return frequencies * (kept + (1 - kept) / scaling.factor);
}

// The gradient of a rotation is the rotation back.
struct Turn : torch::autograd::Function<Turn> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return turn(x, cos, sin);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    return {turn(gradients[0], saved[0], -saved[1]), {}, {}};
  }
};

}  // namespace

RopeTables make_rope(const std::vector<std::int64_t>& positions,
                     std::int64_t head_dim, double theta, at::ScalarType type,
                     const std::optional<config::RopeScaling>& scaling) {
  const at::Tensor exponents =
      at::arange(head_dim / 2, at::kDouble) * (-2.0 / head_dim);
  at::Tensor frequencies = at::exp(exponents * std::log(theta));
  if (scaling) frequencies = scaled(frequencies, *scaling);
  const at::Tensor angles =
      at::outer(at::tensor(positions, at::kLong).to(at::kDouble), frequencies);
  return {at::cos(angles).to(type), at::sin(angles).to(type)};
}

at::Tensor rope(const at::Tensor& x, const RopeTables& tables) {
  return Turn::apply(x, tables.cos, tables.sin);
}

}  // namespace ringweave::models
