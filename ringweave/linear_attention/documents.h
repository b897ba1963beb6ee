// The documents within a block of chunks.
//
// A document's first token resets the state: nothing of one document reaches
// another, and neither do NaN and inf. So what a reset cuts off is replaced;
// multiplied by a factor of 0, NaN would stay NaN.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace ringweave::linear_attention {

/// x (…, rows, dims), with as many rows for each token, where the rows of
/// `tokens` (…, tokens, 1) are `value`; undefined tokens: x.
at::Tensor replaced(const at::Tensor& x, const at::Tensor& tokens,
                    double value = 0);
/// The same in place.
const at::Tensor& replace(const at::Tensor& x, const at::Tensor& tokens,
                          double value = 0);

/// Masks are undefined in a block in which no document starts.
class Documents {
 public:
  Documents() = default;
  /// `starts`: tokens of the block which start a document.
  Documents(const std::vector<std::int64_t>& starts, std::int64_t chunks,
            std::int64_t chunk, at::Device device);

  at::Tensor starts;  ///< (chunks, 1, 1, chunk, 1): tokens that start one
  at::Tensor
      unread;  ///< tokens that the state at the chunk's start can't reach
  at::Tensor unkept;  ///< tokens that can't reach the chunk's end
  at::Tensor cut;     ///< (chunks, 1, 1, 1, 1): chunks in which one starts

  /// `results`, a row or more per token, come from all tokens of a chunk
  /// together, by products with zeros between documents. If that has made NaN
  /// or inf, they become those of every document by itself: `compute` is to
  /// make them with all of `others` 0. In either way a finite document has the
  /// same bits, since the zeros add nothing.
  void separate(
      const std::vector<at::Tensor>& results,
      const std::function<std::vector<at::Tensor>(const at::Tensor& others)>&
          compute) const;

 private:
  at::Tensor index_;  // of each token's document within its chunk
};

}  // namespace ringweave::linear_attention
