// The keys and values of one sequence's tokens that one rank keeps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/packing.h"

namespace ringweave::attention {

class KvCache {
 public:
  /// Takes memory for so many tokens, which else grows as they come. `like`:
  /// keys, for their shape but the tokens and their type.
  void reserve(std::int64_t tokens, const at::Tensor& like);
  /// k, v: (1, tokens, kv_heads, head_dim), of one type. `positions` in the
  /// sequence ascend, and are behind those that are there.
  void append(const at::Tensor& k, const at::Tensor& v,
              std::span<const std::int64_t> positions);
  /// Drops the tokens before a position. Their memory serves later ones.
  void forget_before(std::int64_t position);

  std::int64_t tokens() const {
    return static_cast<std::int64_t>(positions_.size()) - begin_;
  }
  /// Ascending.
  std::span<const std::int64_t> positions() const {
    return std::span(positions_).subspan(static_cast<std::size_t>(begin_));
  }
  /// (1, tokens, kv_heads, head_dim) each, as views; undefined if nothing was
  /// ever appended.
  KvPair keys() const;
  /// Of the memory taken.
  std::int64_t bytes() const;

 private:
  std::int64_t capacity() const {
    return memory_.defined() ? memory_.size(1) : 0;
  }
  /// Moves what is there to the front of memory for at least so many tokens.
  void make_room(std::int64_t tokens, const at::Tensor& like);

  at::Tensor memory_;  ///< (2, capacity, kv_heads, head_dim): K and V
  std::vector<std::int64_t> positions_;  ///< of all in memory
  std::int64_t begin_ = 0;  ///< index of the first that is not forgotten
};

}  // namespace ringweave::attention
