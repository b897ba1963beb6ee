// Kernels of softmax attention on one device, behind a table.
//
// A kernel computes some rows against some keys: all pairs, a causal square, or
// a band. A new kernel is a file with a Kernel and a line in kernel.cpp's
// table. add_kernel() adds one from elsewhere.
#pragma once

#include <memory>
#include <span>
#include <string>

#include <ATen/core/Tensor.h>

#include "ringweave/schedule/mask/area.h"

namespace ringweave::attention {

/// Rows and keys of one call. All tensors are of one type, that of the inputs
/// or its accumulate type (fp64 for fp64, else fp32), and their last stride
/// is 1. Neither rows nor keys are empty.
struct Tile {
  at::Tensor q;  ///< (batch, rows, heads, head_dim)
  at::Tensor k;  ///< (batch, keys, kv_heads, head_dim)
  at::Tensor v;  ///< (batch, keys, kv_heads, head_dim)
  double scale = 1;
  /// Rows and keys count from those of the tile.
  schedule::Area::Kind kind = schedule::Area::Kind::full;
  schedule::Band band = {};  ///< of Kind::band, for a kernel that takes it
  /// (rows, keys), 0 or -inf, of the tensors' type: added to the scores of a
  /// full tile. Undefined: none. Each row sees a key.
  at::Tensor bias = {};
};

/// The softmax over some of the keys; merge_into() joins several.
struct Partial {
  at::Tensor out;  ///< (batch, rows, heads, head_dim)
  at::Tensor
      lse;  ///< (batch, heads, rows), natural log, in the accumulate type
};

struct TileGradients {
  at::Tensor q;  ///< (batch, rows, heads, head_dim)
  at::Tensor k;  ///< (batch, keys, kv_heads, head_dim)
  at::Tensor v;
};

/// How a kernel does an area.
enum class Support {
  none,
  with_bias,  ///< a band, as a full tile with Tile::bias
  direct      ///< as it is
};

/// What a call's tensors are like.
struct TileKind {
  at::Device device;
  at::ScalarType type;
  std::int64_t head_dim;
};

/// Of a kernel that takes full and causal tiles, and bands by their bias.
inline Support bands_with_bias(const schedule::Area& area) {
  return area.kind == schedule::Area::Kind::band ? Support::with_bias
                                                 : Support::direct;
}

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual std::string name() const = 0;
  virtual Support supports(const TileKind& tile,
                           const schedule::Area& area) const = 0;
  /// Only a band of unequal strides has rows that see no key: their out is 0
  /// and their lse -inf.
  virtual Partial forward(const Tile& tile) const = 0;
  /// `grad_out`, `out` (batch, rows, heads, head_dim) and `lse` (batch, heads,
  /// rows) of the tile's rows are over *all* keys of the sequence: the tile's
  /// contributions to the gradients are then exact on their own. An lse of +inf
  /// means a row whose contribution is 0. So is that of a row that sees no key
  /// of the tile, whatever its lse is.
  virtual TileGradients backward(const at::Tensor& grad_out, const Tile& tile,
                                 const at::Tensor& out,
                                 const at::Tensor& lse) const = 0;
};

struct KernelChoice {
  const Kernel* kernel;
  Support support;
};
/// The first kernel of the table that does the area, and how. Throws
/// InvalidArgument if none does.
KernelChoice choose_kernel(const TileKind& tile, const schedule::Area& area);

/// Whether the table has one.
bool has_kernel(const TileKind& tile, const schedule::Area& area);

/// Puts a kernel before all others of the table. Plans that have run keep what
/// they chose. Not while other threads choose.
void add_kernel(std::shared_ptr<const Kernel> kernel);

}  // namespace ringweave::attention
