// Linear attention on one segment, in three stages around the exchange.
//
// 1. The constructor reduces the segment to what other segments need of it.
// 2. prepare() computes, block by block, what needs nothing from others; it
//    may run while states travel.
// 3. finish() adds what the incoming state contributes.
//
// A block is as many chunks as fit in the cache. Nothing is loaded, converted
// or computed twice: what stage 1 loads of a block waits for stage 2, which
// puts its own results in that place. So n segments cost what one segment of
// the same tokens costs. finish() prepares what was not prepared, which is
// faster when there is nothing to wait for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"
#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::linear_attention {

/// What all segments of a rank share; tensors as in linear_attention().
///
/// A state head is a distinct (k, v, decay): there are as many as the least
/// common multiple of their head counts. q has a multiple of that, whose groups
/// share a state, or a divisor.
struct Inputs {
  at::Tensor q, k, v, gates;
  Decay decay = Decay::none;
  double scale = 1;
  bool causal = true;
  at::ScalarType type = at::kFloat;  ///< of states and of all arithmetic

  std::int64_t batch() const { return q.size(0); }
  std::int64_t state_heads() const;
  std::int64_t out_heads() const { return std::max(q.size(2), state_heads()); }
  std::int64_t key_dim() const { return q.size(3); }
  std::int64_t value_dim() const { return v.size(3); }
};

/// Where a segment lies among the rank's tokens, and which of its tokens, from
/// 0, start a document.
struct SegmentTokens {
  Range local;
  std::vector<std::int64_t> resets;
};

/// How a segment is cut.
struct Chunking {
  std::int64_t chunk = 0;  ///< tokens per chunk, a power of two
  std::int64_t chunks = 0;
  std::int64_t per_block = 0;  ///< chunks per block
};
Chunking make_chunking(const Inputs& inputs, std::int64_t tokens);

class ForwardSegment {
 public:
  ForwardSegment(const Inputs& inputs, SegmentTokens tokens);

  /// U: the state at the end if it starts at zero (batch, state_heads, key_dim,
  /// value_dim), contiguous.
  at::Tensor update() const;
  /// The logarithms of A, of what is left at the end of a state at the start,
  /// broadcastable to the state; -inf: a reset, which leaves nothing;
  /// undefined: all is left. Sums of gates: they keep their precision over any
  /// length, where a product of factors rounds at every token and underflows.
  at::Tensor decay() const;

  int blocks() const;
  void prepare(int block);
  /// `state`: at the start, undefined for zero; without causality the state
  /// that all tokens read. Writes the segment's rows of `out`.
  void finish(const at::Tensor& state, const at::Tensor& out);

 private:
  /// As loaded; then as prepared.
  struct Block {
    at::Tensor k = {}, v = {}, factor = {};
    at::Tensor out = {}, read = {};
  };
  Block intra(int block);

  Inputs inputs_;
  SegmentTokens tokens_;
  Chunking chunking_;
  at::Tensor states_;  ///< (chunks + 1, …): at the chunks' boundaries
  at::Tensor prefix_;  ///< (chunks + 1, …): logs of what is left at each
  std::vector<Block> blocks_;
};

/// Tensors to write gradients to: shaped like the inputs. `gates` undefined:
/// not wanted. For constant decay, finish() adds to it.
struct Gradients {
  at::Tensor q, k, v, gates;
};

class BackwardSegment {
 public:
  /// `state`: as given to ForwardSegment::finish.
  BackwardSegment(const Inputs& inputs, SegmentTokens tokens, at::Tensor state,
                  at::Tensor dout, bool want_gates);

  /// V: the gradient of the state at the start, if that of the state at the end
  /// is zero; contiguous.
  at::Tensor update() const;

  int blocks() const;
  /// In order, from block 0.
  void prepare(int block);
  /// `dstate`: gradient of the state at the end, undefined for zero; without
  /// causality that of the state that all tokens read.
  void finish(const at::Tensor& dstate, const Gradients& gradients);

 private:
  /// q, dout and factor as loaded; then all as prepared, without dout.
  struct Block {
    at::Tensor q, k, v, factor, dout;
    at::Tensor dq, dk, dv;
    at::Tensor write, suffix;
    at::Tensor ends;  ///< states at the chunks' ends; only for gates
  };
  Block intra(int block);
  Block all_to_all(int block);

  Inputs inputs_;
  SegmentTokens tokens_;
  Chunking chunking_;
  at::Tensor state_;  ///< of forward, moves on with prepare()
  at::Tensor dout_;
  bool want_gates_;
  at::Tensor dstates_;  ///< (chunks + 1, …): at the chunks' boundaries
  at::Tensor decays_;
  at::Tensor suffix_;  ///< (chunks + 1, …): logs of what is left of each
  std::vector<Block> blocks_;
};

/// The logs of segments' decays, one after the other, when no gate depends on
/// the tokens (none, constant): known from lengths and resets alone; undefined:
/// all is left.
at::Tensor fixed_decays(const Inputs& inputs,
                        const std::vector<SegmentTokens>& segments);

}  // namespace ringweave::linear_attention
