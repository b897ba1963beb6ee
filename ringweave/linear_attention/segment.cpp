#include "ringweave/linear_attention/segment.h"

#include <limits>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/linear_attention/chunk.h"

namespace ringweave::linear_attention {
namespace {

/// rows[i] = aᵀ b of chunk i, without the tokens of `hidden`.
void products_into(const at::Tensor& rows, const at::Tensor& a,
                   const at::Tensor& b, const at::Tensor& hidden) {
  at::Tensor flat = rows.flatten(0, 2);
  at::bmm_out(flat, replaced(a, hidden).flatten(0, 2).transpose(1, 2),
              replaced(b, hidden).flatten(0, 2));
}

/// sum += a · b, but nothing for tokens of `hidden`.
void add_visible_product(const at::Tensor& sum, const at::Tensor& a,
                         const at::Tensor& b, const at::Tensor& hidden) {
  if (hidden.defined()) {
    sum.add_(replace(batch_product(a, b), hidden));
  } else {
    add_product(sum, a, b);
  }
}

/// For per_key gates (…, key_dim) as it is, else its sum over keys.
at::Tensor like_gates(const at::Tensor& x, const at::Tensor& factor) {
  return factor.size(-1) > 1 ? x : x.sum(-1, true);
}

}  // namespace

ForwardSegment::ForwardSegment(const Inputs& inputs, SegmentTokens tokens)
    : inputs_(inputs),
      tokens_(std::move(tokens)),
      chunking_(inputs, tokens_.local.size()),
      states_(inputs.state_shape(), inputs.state_options(),
              cut_chunks(tokens_, chunking_), ChunkStates::Order::forward),
      blocks_(blocks()) {
  for (int block = 0; block < blocks(); ++block) {
    const BlockLoader load = loader(block);
    Block loaded{.documents = load.documents(),
                 .k = load.load(inputs_.k),
                 .v = load.load(inputs_.v)};
    const at::Tensor logs = load.logs(loaded.documents);
    if (logs.defined()) loaded.factor = logs.exp();
    products_into(states_.updates(load.chunks()),
                  times_suffix(loaded.k, loaded.factor), loaded.v,
                  loaded.documents.unkept);
    states_.append(load.chunks(), load.chunk_decays(logs));
    if (inputs_.causal) blocks_[block] = std::move(loaded);
  }
}

void ForwardSegment::prepare(int block) {
  if (inputs_.causal) blocks_[block] = intra(block);
}

ForwardSegment::Block ForwardSegment::intra(int block) {
  const Block loaded = std::exchange(blocks_[block], {});
  const at::Tensor q = loader(block).scaled_q();
  IntraForward result = intra_forward(q, loaded.k, loaded.v, loaded.factor);
  loaded.documents.separate({result.out}, [&](const at::Tensor& others) {
    return std::vector{intra_forward(replaced(q, others),
                                     replaced(loaded.k, others),
                                     replaced(loaded.v, others),
                                     replaced(loaded.factor, others, 1))
                           .out};
  });
  return {.documents = loaded.documents,
          .out = std::move(result.out),
          .read = std::move(result.read)};
}

void ForwardSegment::finish(const at::Tensor& state, const at::Tensor& out) {
  if (inputs_.causal) {
    states_.start(state);
  } else {
    sum_ = state;
  }
  for (int index = 0; index < blocks(); ++index) {
    const BlockLoader load = loader(index);
    if (!inputs_.causal) {
      load.store(
          batch_product(load.scaled_q(),
                        sum_.expand({load.chunks().size(), -1, -1, -1, -1})),
          out);
      continue;
    }
    const Block block =
        blocks_[index].out.defined() ? std::move(blocks_[index]) : intra(index);
    add_visible_product(block.out, block.read, states_.states(load.chunks()),
                        block.documents.unread);
    load.store(block.out, out);
  }
}

at::Tensor ForwardSegment::kept() const {
  return inputs_.causal ? states_.stretch_states() : sum_;
}

BackwardSegment::BackwardSegment(const Inputs& inputs, SegmentTokens tokens,
                                 at::Tensor kept, at::Tensor dout,
                                 bool want_gates)
    : inputs_(inputs),
      tokens_(std::move(tokens)),
      chunking_(inputs, tokens_.local.size()),
      cut_(cut_chunks(tokens_, chunking_)),
      kept_(std::move(kept)),
      dout_(std::move(dout)),
      want_gates_(want_gates),
      dstates_(inputs.state_shape(), inputs.state_options(), cut_,
               ChunkStates::Order::backward),
      blocks_(blocks()) {
  for (int block = blocks() - 1; block >= 0; --block) {
    const BlockLoader load = loader(block);
    Block& loaded = blocks_[block];
    loaded.documents = load.documents();
    loaded.q = load.scaled_q();
    loaded.dout = load.load(dout_);
    const at::Tensor logs = load.logs(loaded.documents);
    if (logs.defined()) loaded.factor = logs.exp();
    loaded.decays = load.chunk_decays(logs);
    products_into(dstates_.updates(load.chunks()),
                  times_prefix(loaded.q, loaded.factor), loaded.dout,
                  loaded.documents.unread);
    dstates_.append(load.chunks(), loaded.decays);
  }
}

void BackwardSegment::prepare(int block) {
  blocks_[block] = inputs_.causal ? intra(block) : all_to_all(block);
}

BackwardSegment::Block BackwardSegment::intra(int index) {
  const BlockLoader load = loader(index);
  Block block = std::exchange(blocks_[index], {});
  const at::Tensor k = load.load(inputs_.k);
  block.v = load.load(inputs_.v);
  const at::Tensor q = std::exchange(block.q, {});
  const at::Tensor dout = std::exchange(block.dout, {});
  IntraBackward result =
      intra_backward(q, k, block.v, dout, block.factor, want_gates_);
  const auto gradients = [this](const IntraBackward& of) {
    std::vector<at::Tensor> all = {of.dq, of.dk, of.dv};
    if (want_gates_) all.push_back(of.dgates);
    return all;
  };
  block.documents.separate(gradients(result), [&](const at::Tensor& others) {
    return gradients(
        intra_backward(replaced(q, others), replaced(k, others),
                       replaced(block.v, others), replaced(dout, others),
                       replaced(block.factor, others, 1), want_gates_));
  });
  block.dq = std::move(result.dq);
  block.dk = std::move(result.dk);
  block.dv = std::move(result.dv);
  block.dgates = std::move(result.dgates);
  block.write = replace(result.write, block.documents.unkept);
  if (result.suffix.defined()) {
    block.suffix = replace(result.suffix, block.documents.unkept);
    replace(result.prefix, block.documents.unread);
  }

  const at::Tensor states = start_states(load.chunks(), block);
  if (!result.prefix.defined()) {
    add_product_nt(block.dq, dout, states);
    return block;
  }
  const at::Tensor dread =
      replace(batch_product_nt(dout, states), block.documents.unread);
  add_times_tokens(block.dq, dread, result.prefix);
  if (want_gates_) {
    block.states = states;
    replace(dread.mul_(q), block.documents.unread);
    const at::Tensor read =
        like_gates(sum_groups(dread, chunking_.chunk), block.factor);
    add_sums_from(block.dgates, read.mul_(result.prefix));
  }
  return block;
}

/// The states that a block's chunks start from, of forward once more.
at::Tensor BackwardSegment::start_states(const Range& chunks,
                                         const Block& block) {
  if (chunks.begin % kStretch == 0) {
    state_ = kept_.select(0, chunks.begin / kStretch);
  }
  std::vector<std::int64_t> shape = inputs_.state_shape();
  shape.insert(shape.begin(), chunks.size() + 1);
  const at::Tensor states = at::empty(shape, inputs_.state_options());
  states.select(0, 0).copy_(state_);
  products_into(states.narrow(0, 1, chunks.size()), block.write, block.v,
                block.documents.unkept);
  for (std::int64_t c = 0; c < chunks.size(); ++c) {
    if (!cut_[chunks.begin + c]) carry(states, c + 1, c, block.decays, c);
  }
  state_ = states.select(0, chunks.size());
  return states.narrow(0, 0, chunks.size());
}

BackwardSegment::Block BackwardSegment::all_to_all(int index) {
  const BlockLoader load = loader(index);
  Block block;
  block.v = load.load(inputs_.v);
  block.write = load.load(inputs_.k);
  block.dq =
      batch_product_nt(std::exchange(blocks_[index].dout, {}),
                       kept_.expand({load.chunks().size(), -1, -1, -1, -1}));
  return block;
}

void BackwardSegment::finish(const at::Tensor& dstate,
                             const Gradients& gradients) {
  if (inputs_.causal) dstates_.start(dstate);
  for (int index = 0; index < blocks(); ++index) {
    if (!blocks_[index].dq.defined()) prepare(index);
    Block block = std::exchange(blocks_[index], {});
    const BlockLoader load = loader(index);
    if (inputs_.causal) {
      finish_causal(load.chunks(), block);
    } else {
      const at::Tensor dends =
          dstate.expand({load.chunks().size(), -1, -1, -1, -1});
      block.dk = batch_product_nt(block.v, dends);
      block.dv = batch_product(block.write, dends);
    }
    if (want_gates_) store_gates(load, block, gradients.gates);
    if (inputs_.scale != 1) block.dq.mul_(inputs_.scale);
    load.store(block.dq, gradients.q);
    load.store(block.dk, gradients.k);
    load.store(block.dv, gradients.v);
  }
}

/// Adds what later chunks give.
void BackwardSegment::finish_causal(const Range& chunks, Block& block) {
  const at::Tensor dends = dstates_.states(chunks);
  add_visible_product(block.dv, block.write, dends, block.documents.unkept);
  if (!block.suffix.defined()) {
    add_product_nt(block.dk, block.v, dends);
    return;
  }
  const at::Tensor dwrite =
      replace(batch_product_nt(block.v, dends), block.documents.unkept);
  block.dk.addcmul_(dwrite, block.suffix);
  if (want_gates_) finish_gates(dwrite, dends, block);
}

/// Of the pairs (s, t) of tokens around a gate those are missing that have t in
/// later chunks: s is in this one, or in earlier ones. `dwrite` is overwritten.
void BackwardSegment::finish_gates(const at::Tensor& dwrite,
                                   const at::Tensor& dends, Block& block) {
  add_sums_before(block.dgates,
                  like_gates(dwrite.mul_(block.write), block.factor));
  at::Tensor across = (block.states * dends).sum(-1, true);
  if (block.decays.factors.defined()) across.mul_(block.decays.factors);
  if (block.documents.cut.defined()) {
    across.masked_fill_(block.documents.cut, 0);
  }
  block.dgates.add_(like_gates(across.transpose(-1, -2), block.factor));
  // Gates of -inf, and those of a document's first token, which reset in place
  // of a decay.
  block.dgates.masked_fill_(block.factor == 0, 0);
}

void BackwardSegment::store_gates(const BlockLoader& load, const Block& block,
                                  const at::Tensor& gates) const {
  if (inputs_.decay == Decay::constant) {
    gates.add_(load.without_padding(block.dgates)
                   .sum({0, 1, 3, 4})
                   .view({gates.size(0), -1})
                   .sum(1));
  } else {
    load.store(block.dgates, gates);
  }
}

at::Tensor fixed_decays(const Inputs& inputs,
                        const std::vector<SegmentTokens>& segments) {
  const auto count = static_cast<std::int64_t>(segments.size());
  std::vector<double> lengths;
  std::vector<std::int64_t> resets;
  for (std::int64_t i = 0; i < count; ++i) {
    lengths.push_back(static_cast<double>(segments[i].local.size()));
    if (!segments[i].resets.empty()) resets.push_back(i);
  }
  if (inputs.decay == Decay::none && resets.empty()) return {};
  const auto options = inputs.state_options();
  const at::Tensor logs =
      inputs.decay == Decay::none
          ? at::zeros({count, 1}, options)
          : at::tensor(lengths, options).unsqueeze(1) * constant_logs(inputs);
  logs.index_fill_(0, at::tensor(resets, options.dtype(at::kLong)),
                   -std::numeric_limits<double>::infinity());
  return logs.view({count, 1, logs.size(1), 1, 1});
}

}  // namespace ringweave::linear_attention
