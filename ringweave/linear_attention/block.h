// How a segment is cut into chunks and blocks, and how one block of it is
// loaded.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"
#include "ringweave/linear_attention/chunk_states.h"
#include "ringweave/linear_attention/documents.h"
#include "ringweave/linear_attention/inputs.h"

namespace ringweave::linear_attention {

/// How a segment is cut.
struct Chunking {
  Chunking(const Inputs& inputs, std::int64_t tokens);

  std::int64_t tokens;
  std::int64_t chunk;      ///< tokens per chunk, a power of two
  std::int64_t chunks;     ///< of the segment
  std::int64_t per_block;  ///< chunks per block; divides kStretch

  int blocks() const;
};

/// For each chunk whether a document starts in it.
std::vector<bool> cut_chunks(const SegmentTokens& tokens,
                             const Chunking& chunking);

/// Reads and writes one block's tokens, as chunks in the states' type.
class BlockLoader {
 public:
  /// All must outlive it.
  BlockLoader(const Inputs& inputs, const SegmentTokens& tokens,
              const Chunking& chunking, int block);

  const Range& chunks() const { return chunks_; }
  Documents documents() const;

  at::Tensor load(const at::Tensor& x) const;
  at::Tensor scaled_q() const;
  void store(const at::Tensor& chunks, const at::Tensor& x) const;

  /// The tokens' log decays, -inf at a reset, shaped as the factors that
  /// chunk.h wants; undefined: none.
  at::Tensor logs(const Documents& documents) const;
  /// Their sums over chunks.
  ChunkDecays chunk_decays(const at::Tensor& logs) const;

  /// `x` with what belongs to padding set to zero.
  at::Tensor without_padding(const at::Tensor& x) const;

 private:
  at::Tensor constant_logs(bool per_chunk) const;

  const Inputs& inputs_;
  const SegmentTokens& tokens_;
  std::int64_t chunk_;
  Range chunks_;
  Range local_;  // tokens, among those of the segment
};

/// A constant decay's logs, one per state head.
at::Tensor constant_logs(const Inputs& inputs);

}  // namespace ringweave::linear_attention
