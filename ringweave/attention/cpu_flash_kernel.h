// libtorch's flash attention on CPUs.
#pragma once

#include "ringweave/attention/kernel.h"

namespace ringweave::attention {

/// fp64 and fp32; full and causal tiles, bands by their bias.
class CpuFlashKernel final : public Kernel {
 public:
  std::string name() const override { return "cpu_flash"; }
  Support supports(const TileKind& tile,
                   const schedule::Area& area) const override;
  Partial forward(const Tile& tile) const override;
  TileGradients backward(const at::Tensor& grad_out, const Tile& tile,
                         const at::Tensor& out,
                         const at::Tensor& lse) const override;
};

}  // namespace ringweave::attention
