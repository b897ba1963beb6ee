// Rotary position embedding, in Llama's arrangement: dimension i turns with
// dimension i + head_dim / 2.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/config/model_config.h"

namespace ringweave::models {

/// cos and sin of position · theta^(-2i / head_dim), or of what scaling makes
/// of it: (tokens, head_dim / 2).
struct RopeTables {
  at::Tensor cos;
  at::Tensor sin;
};

/// Of the positions that a rank holds, in the order of its tokens. Computed in
/// fp64, returned in `type`.
RopeTables make_rope(const std::vector<std::int64_t>& positions,
                     std::int64_t head_dim, double theta, at::ScalarType type,
                     const std::optional<config::RopeScaling>& scaling = {});

/// Turns x: (batch, tokens, heads, head_dim); computes in the tables' type and
/// returns x's. Differentiable in x.
at::Tensor rope(const at::Tensor& x, const RopeTables& tables);

}  // namespace ringweave::models
