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

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/linear_attention/block.h"
#include "ringweave/linear_attention/chunk_states.h"
#include "ringweave/linear_attention/documents.h"
#include "ringweave/linear_attention/inputs.h"

namespace ringweave::linear_attention {

class ForwardSegment {
 public:
  ForwardSegment(const Inputs& inputs, SegmentTokens tokens);

  /// U: the state at the end if it starts at zero (batch, state_heads, key_dim,
  /// value_dim), contiguous.
  at::Tensor update() const { return states_.update(); }
  /// The logarithms of A, of what is left at the end of a state at the start,
  /// broadcastable to the state; -inf: a reset, which leaves nothing;
  /// undefined: all is left. Sums of gates: they keep their precision over any
  /// length, where a product of factors rounds at every token and underflows.
  at::Tensor decay() const { return states_.decay(); }

  int blocks() const { return chunking_.blocks(); }
  void prepare(int block);
  /// `state`: at the start, undefined for zero; without causality the state
  /// that all tokens read. Writes the segment's rows of `out`.
  void finish(const at::Tensor& state, const at::Tensor& out);
  /// What backward wants back, once finish() was called: the states that
  /// stretches start from; without causality the state that all tokens read.
  at::Tensor kept() const;

 private:
  /// As loaded; then as prepared.
  struct Block {
    Documents documents = {};
    at::Tensor k = {}, v = {}, factor = {};
    at::Tensor out = {}, read = {};
  };
  BlockLoader loader(int block) const {
    return {inputs_, tokens_, chunking_, block};
  }
  Block intra(int block);

  Inputs inputs_;
  SegmentTokens tokens_;
  Chunking chunking_;
  ChunkStates states_;
  at::Tensor sum_;  // without causality
  std::vector<Block> blocks_;
};

/// Tensors to write gradients to: shaped like the inputs. `gates` undefined:
/// not wanted. For constant decay, finish() adds to it.
struct Gradients {
  at::Tensor q, k, v, gates;
};

class BackwardSegment {
 public:
  /// `kept`: ForwardSegment::kept().
  BackwardSegment(const Inputs& inputs, SegmentTokens tokens, at::Tensor kept,
                  at::Tensor dout, bool want_gates);

  /// V: the gradient of the state at the start, if that of the state at the end
  /// is zero; contiguous.
  at::Tensor update() const { return dstates_.update(); }

  int blocks() const { return chunking_.blocks(); }
  /// In order, from block 0.
  void prepare(int block);
  /// `dstate`: gradient of the state at the end, undefined for zero; without
  /// causality that of the state that all tokens read.
  void finish(const at::Tensor& dstate, const Gradients& gradients);

 private:
  /// q, dout, factor and decays as loaded; then all as prepared, without q and
  /// dout.
  struct Block {
    Documents documents;
    at::Tensor q, v, factor, dout;
    ChunkDecays decays;
    at::Tensor dq, dk, dv;
    at::Tensor write, suffix;
    /// Only if gates' gradients are wanted: what is known of them, and the
    /// states that chunks start from.
    at::Tensor dgates, states;
  };
  BlockLoader loader(int block) const {
    return {inputs_, tokens_, chunking_, block};
  }
  Block intra(int block);
  Block all_to_all(int block);
  at::Tensor start_states(const Range& chunks, const Block& block);
  void finish_causal(const Range& chunks, Block& block);
  void finish_gates(const at::Tensor& dwrite, const at::Tensor& dends,
                    Block& block);
  void store_gates(const BlockLoader& load, const Block& block,
                   const at::Tensor& gates) const;

  Inputs inputs_;
  SegmentTokens tokens_;
  Chunking chunking_;
  std::vector<bool> cut_;
  at::Tensor kept_;
  at::Tensor state_;  // of forward, where the next block starts
  at::Tensor dout_;
  bool want_gates_;
  ChunkStates dstates_;
  std::vector<Block> blocks_;
};

/// The logs of segments' decays, one after the other, when no gate depends on
/// the tokens (none, constant): known from lengths and resets alone; undefined:
/// all is left.
at::Tensor fixed_decays(const Inputs& inputs,
                        const std::vector<SegmentTokens>& segments);

}  // namespace ringweave::linear_attention
