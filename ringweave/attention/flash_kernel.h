// libtorch's flash attention on accelerators.
#pragma once

#include "ringweave/attention/kernel.h"

namespace ringweave::attention {

/// bf16 and fp16; full and causal tiles, bands of equal strides as windows; any
/// number of query heads per kv head, head_dim up to 256. On devices for which
/// torch has the operation. Outputs are rounded to that type; lse is fp32.
class FlashKernel final : public Kernel {
 public:
  std::string name() const override { return "flash"; }
  Support supports(const TileKind& tile,
                   const schedule::Area& area) const override;
  Partial forward(const Tile& tile) const override;
  TileGradients backward(const at::Tensor& grad_out, const Tile& tile,
                         const at::Tensor& out,
                         const at::Tensor& lse) const override;
};

}  // namespace ringweave::attention
