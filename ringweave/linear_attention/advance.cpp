#include "ringweave/linear_attention/advance.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"

namespace ringweave::linear_attention {
namespace {

/// (sequences, heads, …) → (sequences, count, …), consecutive ones from one.
at::Tensor spread(const at::Tensor& x, std::int64_t count) {
  return x.size(1) == count ? x : x.repeat_interleave(count / x.size(1), 1);
}

/// What is left of a state, to be multiplied with it: (1 or sequences, heads,
/// 1 or key_dim, 1).
at::Tensor left_of_state(Decay decay, const at::Tensor& gates,
                         std::int64_t heads) {
  switch (decay) {
    case Decay::constant:
      return spread(gates.exp().unsqueeze(0), heads).view({1, heads, 1, 1});
    case Decay::per_head:
      return spread(gates.exp(), heads).unsqueeze(2).unsqueeze(3);
    case Decay::per_key:
      return spread(gates.exp(), heads).unsqueeze(3);
    case Decay::none:
      break;
  }
  return {};
}

}  // namespace

at::Tensor advance(const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, Decay decay, const at::Tensor& gates,
                   double scale, const at::Tensor& states) {
  ensure(states.is_contiguous() && states.size(0) == q.size(0),
         "states of {} sequences for {}", states.size(0), q.size(0));
  const at::ScalarType type = states.scalar_type();
  const std::int64_t sequences = states.size(0);
  const std::int64_t heads = states.size(1);
  const std::int64_t key_dim = states.size(2);
  const std::int64_t value_dim = states.size(3);
  if (decay != Decay::none) {
    const at::Tensor left = left_of_state(decay, gates, heads);
    states.mul_(left);
    // A gate of -inf resets whatever was there, NaN too.
    const at::Tensor resets = left == 0;
    if (resets.any().item<bool>()) states.masked_fill_(resets, 0);
  }
  const std::int64_t batch = sequences * heads;
  const at::Tensor flat = states.view({batch, key_dim, value_dim});
  flat.baddbmm_(spread(k.to(type), heads).reshape({batch, key_dim, 1}),
                spread(v.to(type), heads).reshape({batch, 1, value_dim}));
  // Query heads of one state are rows of one product.
  const std::int64_t out_heads = std::max(q.size(1), heads);
  const at::Tensor rows = spread(q.to(type), out_heads)
                              .reshape({batch, out_heads / heads, key_dim});
  return (at::bmm(rows, flat) * scale)
      .view({sequences, out_heads, value_dim})
      .to(v.scalar_type());
}

}  // namespace ringweave::linear_attention
