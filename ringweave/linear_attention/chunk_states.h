// The states at the boundaries of a segment's chunks: S_{c+1} = a_c ⊙ S_c +
// U_c.
//
// Thousands of chunks may follow one another, and a state that is rounded at
// each of them is off by as many roundings: 1e-4 in fp32 after 262,144 tokens.
// So chunks follow one another in stretches of 32. Each stretch starts from
// zero, in the states' type, and stretches follow one another in fp64. What a
// stretch starts from is added to its chunks' states when it is known.
// Decays travel along as logarithms, in fp64: a sum of gates keeps a small one
// beside a large one, where a product of factors near 1 does not.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"

namespace ringweave::linear_attention {

inline constexpr std::int64_t kStretch = 32;  ///< chunks

/// What chunks leave of a state, one row per chunk, broadcastable to states;
/// undefined: all.
struct ChunkDecays {
  at::Tensor logs;     ///< fp64
  at::Tensor factors;  ///< in the states' type
};

/// rows[to] += a_chunk ⊙ rows[from].
void carry(const at::Tensor& rows, std::int64_t to, std::int64_t from,
           const ChunkDecays& decays, std::int64_t chunk);

class ChunkStates {
 public:
  enum class Order { forward, backward };

  /// `shape`, `options`: of a state. `cut`: for each chunk whether a document
  /// starts in it; such a chunk leaves nothing of a state.
  ChunkStates(const std::vector<std::int64_t>& shape,
              const at::TensorOptions& options, std::vector<bool> cut,
              Order order);

  /// Rows for the updates of some chunks, to be written before append().
  at::Tensor updates(const Range& chunks) const;
  /// Appends the chunks of a block, which lie in one stretch, block by block in
  /// order.
  void append(const Range& chunks, const ChunkDecays& decays);

  /// Once all are appended: the state after the last chunk if the first starts
  /// from zero, contiguous; and the logs of what is left there of another
  /// start, -inf: nothing, undefined: all.
  const at::Tensor& update() const { return update_; }
  at::Tensor decay() const;

  /// What the first chunk starts from; undefined: zero. Once.
  void start(const at::Tensor& state);
  /// After start(): the states that a block's chunks start from. Once per
  /// block.
  at::Tensor states(const Range& chunks);
  /// After start(): the states that stretches start from, in position order.
  const at::Tensor& stretch_states() const { return stretch_states_; }

 private:
  struct Stretch {
    std::int64_t index = 0;
    at::Tensor left = {};  ///< factors: of the segment's start; undefined: 1
    bool reached = true;   ///< whether anything is left of it
  };

  bool starts_stretch(const Range& chunks) const;
  bool ends_stretch(const Range& chunks) const;
  void end_stretch(const Range& chunks);
  Range reached(const Range& chunks) const;
  /// The boundary where chunk c starts or ends, in the order's sense.
  std::int64_t before(std::int64_t c) const { return c + (forward_ ? 0 : 1); }
  std::int64_t after(std::int64_t c) const { return c + (forward_ ? 1 : 0); }

  std::vector<bool> cut_;
  bool forward_;
  at::Tensor rows_;            // (chunks + 1, …): at the chunks' boundaries
  at::Tensor stretch_states_;  // (stretches, …)
  std::vector<Stretch> stretches_;  // in order
  std::vector<at::Tensor> left_;    // by chunk: factors, of the stretch's start
  at::Tensor sum_;                  // fp64: the state after the last stretch
  at::Tensor logs_, all_logs_;  // fp64: of this stretch so far, of all before
  bool stretch_cut_ = false, all_cut_ = false;
  at::Tensor update_;
  bool started_ = false;
};

}  // namespace ringweave::linear_attention
