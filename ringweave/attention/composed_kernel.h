// Softmax attention as products of matrices, on any device.
#pragma once

#include "ringweave/attention/kernel.h"

namespace ringweave::attention {

/// fp64 and fp32 on accelerators, for what no fused kernel takes; full and
/// causal tiles, bands by their bias. Scores lie in memory, for some rows at a
/// time.
class ComposedKernel final : public Kernel {
 public:
  std::string name() const override { return "composed"; }
  Support supports(const TileKind& tile,
                   const schedule::Area& area) const override;
  Partial forward(const Tile& tile) const override;
  TileGradients backward(const at::Tensor& grad_out, const Tile& tile,
                         const at::Tensor& out,
                         const at::Tensor& lse) const override;
};

}  // namespace ringweave::attention
