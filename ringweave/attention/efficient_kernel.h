// libtorch's memory-efficient attention on accelerators.
#pragma once

#include "ringweave/attention/kernel.h"

namespace ringweave::attention {

/// fp32; full and causal tiles, bands by their bias. On devices for which torch
/// has the operation. Keys are repeated for the query heads that share them.
class EfficientKernel final : public Kernel {
 public:
  std::string name() const override { return "efficient"; }
  Support supports(const TileKind& tile,
                   const schedule::Area& area) const override;
  Partial forward(const Tile& tile) const override;
  TileGradients backward(const at::Tensor& grad_out, const Tile& tile,
                         const at::Tensor& out,
                         const at::Tensor& lse) const override;
};

}  // namespace ringweave::attention
