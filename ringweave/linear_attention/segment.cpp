#include "ringweave/linear_attention/segment.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/linear_attention/chunk.h"
#include "ringweave/schedule/linear_chunk.h"

namespace ringweave::linear_attention {
namespace {

/// Elements of one operand of a block: 1 MiB in fp32, so that the ten or so
/// operands of a block stay in the cache.
constexpr std::int64_t kBlockElements = 1 << 18;

/// The chunks of a block, and its tokens among those of the segment.
struct BlockRange {
  Range chunks;
  Range tokens;
};

BlockRange block_range(const Chunking& chunking, const Range& segment,
                       int block) {
  const std::int64_t first = block * chunking.per_block;
  const std::int64_t last =
      std::min(first + chunking.per_block, chunking.chunks);
  return {{first, last},
          {first * chunking.chunk,
           std::min(last * chunking.chunk, segment.size())}};
}

int block_count(const Chunking& chunking) {
  return static_cast<int>((chunking.chunks + chunking.per_block - 1) /
                          chunking.per_block);
}

constexpr double kReset = -std::numeric_limits<double>::infinity();

/// A constant decay's logs, one per state head.
at::Tensor constant_logs(const Inputs& inputs) {
  const std::int64_t heads = inputs.state_heads();
  const at::Tensor logs = inputs.gates.to(inputs.type).unsqueeze(1);
  return logs.expand({-1, heads / logs.size(0)}).reshape({heads});
}

/// True for tokens that start a document; (chunks, 1, 1, chunk, 1).
at::Tensor reset_mask(const std::vector<std::int64_t>& resets,
                      const BlockRange& range, std::int64_t chunk,
                      at::Device device) {
  std::vector<std::int64_t> starts;
  for (const std::int64_t token : resets) {
    if (token >= range.tokens.begin && token < range.tokens.end) {
      starts.push_back(token - range.tokens.begin);
    }
  }
  return at::zeros({range.chunks.size() * chunk}, at::kBool)
      .index_fill_(0, at::tensor(starts, at::kLong), true)
      .view({range.chunks.size(), 1, 1, chunk, 1})
      .to(device);
}

/// `per_chunk`: chunks are to differ.
at::Tensor constant_block(const Inputs& inputs, const BlockRange& range,
                          std::int64_t chunk, bool per_chunk) {
  const at::Tensor logs = constant_logs(inputs).view({1, 1, -1, 1, 1});
  const std::int64_t rest = range.tokens.size() % chunk;
  const std::int64_t chunks = per_chunk || rest > 0 ? range.chunks.size() : 1;
  const at::Tensor result = logs.expand({chunks, 1, -1, chunk, 1}).contiguous();
  if (rest > 0) {
    result.select(0, chunks - 1).narrow(2, rest, chunk - rest).zero_();
  }
  return result;
}

/// The log decays of a block's tokens, -inf at a reset, shaped as the factors
/// that chunk.h wants; undefined: none.
at::Tensor block_logs(const Inputs& inputs, const SegmentTokens& tokens,
                      const BlockRange& range, std::int64_t chunk) {
  const bool resets = !tokens.resets.empty();
  at::Tensor logs;
  switch (inputs.decay) {
    case Decay::none:
      if (!resets) return {};
      logs = at::zeros({range.chunks.size(), 1, 1, chunk, 1},
                       inputs.q.options().dtype(inputs.type));
      break;
    case Decay::constant:
      logs = constant_block(inputs, range, chunk, resets);
      break;
    case Decay::per_head:
    case Decay::per_key:
      logs = to_chunks(inputs.gates, inputs.state_heads(),
                       tokens.local.begin + range.tokens.begin,
                       range.tokens.size(), chunk, inputs.type);
      break;
  }
  if (resets) {
    logs.masked_fill_(reset_mask(tokens.resets, range, chunk, logs.device()),
                      kReset);
  }
  return logs;
}

struct Loader {
  const Inputs& inputs;
  const SegmentTokens& tokens;
  const Chunking& chunking;
  BlockRange range;

  at::Tensor operator()(const at::Tensor& x) const {
    return to_chunks(x, inputs.state_heads(),
                     tokens.local.begin + range.tokens.begin,
                     range.tokens.size(), chunking.chunk, inputs.type);
  }
  at::Tensor scaled_q() const {
    const at::Tensor q = (*this)(inputs.q);
    return inputs.scale == 1 ? q : q.mul_(inputs.scale);
  }
  at::Tensor logs() const {
    return inputs.causal ? block_logs(inputs, tokens, range, chunking.chunk)
                         : at::Tensor();
  }
  void store(const at::Tensor& chunks, const at::Tensor& x) const {
    from_chunks(chunks, x, tokens.local.begin + range.tokens.begin,
                range.tokens.size(), chunking.chunk);
  }
};

at::Tensor state_rows(const Inputs& inputs, std::int64_t rows) {
  return at::empty({rows, inputs.batch(), inputs.state_heads(),
                    inputs.key_dim(), inputs.value_dim()},
                   inputs.q.options().dtype(inputs.type));
}

/// rows[i] = aᵀ b of chunk i.
void products_into(const at::Tensor& rows, const at::Tensor& a,
                   const at::Tensor& b) {
  at::Tensor flat = rows.flatten(0, 2);
  at::bmm_out(flat, a.flatten(0, 2).transpose(1, 2), b.flatten(0, 2));
}

/// Undefined logs: undefined factors.
at::Tensor factors(const at::Tensor& logs) {
  return logs.defined() ? logs.exp() : logs;
}

/// The logs of what a block's chunks leave, broadcastable to states, one per
/// chunk.
at::Tensor chunk_logs(const at::Tensor& logs, std::int64_t chunks) {
  const at::Tensor total = logs.sum(-2).unsqueeze(-1);
  std::vector<std::int64_t> shape = total.sizes().vec();
  shape.front() = chunks;
  return total.expand(shape);
}

/// rows[to] += decay · rows[from].
void carry(const at::Tensor& rows, std::int64_t to, std::int64_t from,
           const at::Tensor& decays, std::int64_t chunk) {
  const at::Tensor row = rows.select(0, to);
  if (decays.defined()) {
    row.addcmul_(rows.select(0, from), decays.select(0, chunk));
  } else {
    row.add_(rows.select(0, from));
  }
}

/// rows += factors(logs) · state, where undefined logs and an undefined state
/// are 0.
void add_decayed(const at::Tensor& rows, const at::Tensor& logs,
                 const Range& range, const at::Tensor& state) {
  if (!state.defined()) return;
  if (logs.defined()) {
    rows.addcmul_(logs.narrow(0, range.begin, range.size()).exp(), state);
  } else {
    rows.add_(state);
  }
}

/// The sums of logs before each boundary: 0, a_0, a_0 + a_1, …
at::Tensor boundary_prefixes(const at::Tensor& logs) {
  return at::cat({at::zeros_like(logs.narrow(0, 0, 1)), logs.cumsum(0)});
}

at::Tensor boundary_suffixes(const at::Tensor& logs) {
  return boundary_prefixes(logs.flip(0)).flip(0);
}

/// The gradient of the log gates, shaped like the factors but without
/// broadcasting over chunks and batch. Per chunk (docs/algorithms.md):
/// dg_t = Σ_{s >= t} (q_s ⊙ dq_s - k_s ⊙ dk_s) + Σ_dv S_end ⊙ dS_end. The sum
/// needs no restart at resets, where it is zero; to be exactly zero, gates of
/// tokens with factor 0 are set so.
at::Tensor gate_gradient(const at::Tensor& differences, const at::Tensor& ends,
                         const at::Tensor& dends, const at::Tensor& factor) {
  const std::int64_t chunk = differences.size(3);
  const at::Tensor boundary = (ends * dends).sum(-1);
  const at::Tensor ones = at::ones({chunk, chunk}, differences.options());
  at::Tensor result;
  if (factor.size(-1) > 1) {
    const at::Tensor flat = differences.flatten(0, 2);
    result = at::baddbmm(boundary.flatten(0, 2).unsqueeze(1),
                         ones.triu_().expand({flat.size(0), -1, -1}), flat)
                 .view(differences.sizes());
  } else {
    result = at::matmul(differences.sum(-1), ones.tril_())
                 .add_(boundary.sum(-1, true))
                 .unsqueeze(-1);
  }
  return result.masked_fill_(factor == 0, 0);
}

/// `x` with what belongs to padding set to zero.
at::Tensor without_padding(const at::Tensor& x, const BlockRange& range,
                           std::int64_t chunk) {
  const std::int64_t rest = range.tokens.size() % chunk;
  if (rest > 0) {
    x.select(0, range.chunks.size() - 1).narrow(2, rest, chunk - rest).zero_();
  }
  return x;
}

}  // namespace

std::int64_t Inputs::state_heads() const {
  const std::int64_t heads = std::lcm(k.size(2), v.size(2));
  if (!gates.defined()) return heads;
  return std::lcm(heads, gates.size(decay == Decay::constant ? 0 : 2));
}

Chunking make_chunking(const Inputs& inputs, std::int64_t tokens) {
  Chunking result;
  result.chunk =
      std::min<std::int64_t>(schedule::kLinearChunk,
                             std::bit_ceil(static_cast<std::uint64_t>(tokens)));
  result.chunks = (tokens + result.chunk - 1) / result.chunk;
  const std::int64_t widest =
      std::max({inputs.key_dim(), inputs.value_dim(), result.chunk});
  const std::int64_t chunk_elements =
      std::max<std::int64_t>(1, inputs.batch() * inputs.out_heads()) *
      result.chunk * widest;
  result.per_block = std::max<std::int64_t>(1, kBlockElements / chunk_elements);
  return result;
}

ForwardSegment::ForwardSegment(const Inputs& inputs, SegmentTokens tokens)
    : inputs_(inputs),
      tokens_(std::move(tokens)),
      chunking_(make_chunking(inputs, tokens_.local.size())),
      states_(state_rows(inputs, chunking_.chunks + 1)),
      blocks_(block_count(chunking_)) {
  states_.select(0, 0).zero_();
  std::vector<at::Tensor> decays;
  for (int block = 0; block < blocks(); ++block) {
    const BlockRange range = block_range(chunking_, tokens_.local, block);
    const Loader load{inputs_, tokens_, chunking_, range};
    const at::Tensor logs = load.logs();
    Block loaded{
        .k = load(inputs_.k), .v = load(inputs_.v), .factor = factors(logs)};
    products_into(
        states_.narrow(0, range.chunks.begin + 1, range.chunks.size()),
        times_suffix(loaded.k, loaded.factor), loaded.v);
    if (inputs_.causal) blocks_[block] = std::move(loaded);
    if (logs.defined()) {
      decays.push_back(chunk_logs(logs, range.chunks.size()));
    }
    const at::Tensor block_decays =
        logs.defined() ? decays.back().exp() : at::Tensor();
    for (std::int64_t c = std::max<std::int64_t>(1, range.chunks.begin);
         c < range.chunks.end; ++c) {
      carry(states_, c + 1, c, block_decays, c - range.chunks.begin);
    }
  }
  if (!decays.empty()) prefix_ = boundary_prefixes(at::cat(decays));
}

at::Tensor ForwardSegment::update() const {
  return states_.select(0, chunking_.chunks);
}

at::Tensor ForwardSegment::decay() const {
  return prefix_.defined() ? prefix_.select(0, chunking_.chunks) : at::Tensor();
}

int ForwardSegment::blocks() const { return block_count(chunking_); }

void ForwardSegment::prepare(int block) {
  if (inputs_.causal) blocks_[block] = intra(block);
}

ForwardSegment::Block ForwardSegment::intra(int block) {
  const Loader load{inputs_, tokens_, chunking_,
                    block_range(chunking_, tokens_.local, block)};
  const Block loaded = std::exchange(blocks_[block], {});
  IntraForward result =
      intra_forward(load.scaled_q(), loaded.k, loaded.v, loaded.factor);
  return {.out = std::move(result.out), .read = std::move(result.read)};
}

void ForwardSegment::finish(const at::Tensor& state, const at::Tensor& out) {
  for (int index = 0; index < blocks(); ++index) {
    const BlockRange range = block_range(chunking_, tokens_.local, index);
    const Loader load{inputs_, tokens_, chunking_, range};
    if (!inputs_.causal) {
      load.store(
          batch_product(load.scaled_q(),
                        state.expand({range.chunks.size(), -1, -1, -1, -1})),
          out);
      continue;
    }
    const Block block =
        blocks_[index].out.defined() ? std::move(blocks_[index]) : intra(index);
    const at::Tensor states =
        states_.narrow(0, range.chunks.begin, range.chunks.size());
    add_decayed(states, prefix_, range.chunks, state);
    add_product(block.out, block.read, states);
    load.store(block.out, out);
  }
}

BackwardSegment::BackwardSegment(const Inputs& inputs, SegmentTokens tokens,
                                 at::Tensor state, at::Tensor dout,
                                 bool want_gates)
    : inputs_(inputs),
      tokens_(std::move(tokens)),
      chunking_(make_chunking(inputs, tokens_.local.size())),
      state_(std::move(state)),
      dout_(std::move(dout)),
      want_gates_(want_gates),
      dstates_(state_rows(inputs, chunking_.chunks + 1)),
      blocks_(block_count(chunking_)) {
  dstates_.select(0, chunking_.chunks).zero_();
  std::vector<at::Tensor> chunks_logs(blocks());
  for (int block = blocks() - 1; block >= 0; --block) {
    const BlockRange range = block_range(chunking_, tokens_.local, block);
    const Loader load{inputs_, tokens_, chunking_, range};
    const at::Tensor logs = load.logs();
    Block& loaded = blocks_[block];
    loaded.q = load.scaled_q();
    loaded.factor = factors(logs);
    loaded.dout = load(dout_);
    products_into(dstates_.narrow(0, range.chunks.begin, range.chunks.size()),
                  times_prefix(loaded.q, loaded.factor), loaded.dout);
    if (logs.defined()) {
      chunks_logs[block] = chunk_logs(logs, range.chunks.size());
    }
    const at::Tensor decays = factors(chunks_logs[block]);
    for (std::int64_t c = range.chunks.end - 1; c >= range.chunks.begin; --c) {
      if (c + 1 == chunking_.chunks) continue;
      carry(dstates_, c, c + 1, decays, c - range.chunks.begin);
    }
  }
  if (chunks_logs.front().defined()) {
    const at::Tensor logs = at::cat(chunks_logs);
    decays_ = logs.exp();
    suffix_ = boundary_suffixes(logs);
  }
}

at::Tensor BackwardSegment::update() const { return dstates_.select(0, 0); }

int BackwardSegment::blocks() const { return block_count(chunking_); }

void BackwardSegment::prepare(int block) {
  blocks_[block] = inputs_.causal ? intra(block) : all_to_all(block);
}

BackwardSegment::Block BackwardSegment::intra(int index) {
  const BlockRange range = block_range(chunking_, tokens_.local, index);
  const Loader load{inputs_, tokens_, chunking_, range};
  Block block = std::exchange(blocks_[index], {});
  block.k = load(inputs_.k);
  block.v = load(inputs_.v);
  const at::Tensor dout = std::exchange(block.dout, {});
  IntraBackward result =
      intra_backward(block.q, block.k, block.v, dout, block.factor);
  block.dq = std::move(result.dq);
  block.dk = std::move(result.dk);
  block.dv = std::move(result.dv);
  block.write = std::move(result.write);
  block.suffix = std::move(result.suffix);

  const std::int64_t chunks = range.chunks.size();
  const at::Tensor states = state_rows(inputs_, chunks + 1);
  if (state_.defined()) {
    states.select(0, 0).copy_(state_);
  } else {
    states.select(0, 0).zero_();
  }
  const at::Tensor ends = states.narrow(0, 1, chunks);
  products_into(ends, block.write, block.v);
  for (std::int64_t c = 0; c < chunks; ++c) {
    carry(states, c + 1, c, decays_, range.chunks.begin + c);
  }
  state_ = states.select(0, chunks);
  const at::Tensor starts = states.narrow(0, 0, chunks);
  if (result.prefix.defined()) {
    add_times_tokens(block.dq, batch_product_nt(dout, starts), result.prefix);
  } else {
    add_product_nt(block.dq, dout, starts);
  }
  if (want_gates_) block.ends = ends;
  return block;
}

BackwardSegment::Block BackwardSegment::all_to_all(int index) {
  const BlockRange range = block_range(chunking_, tokens_.local, index);
  const Loader load{inputs_, tokens_, chunking_, range};
  Block block;
  block.v = load(inputs_.v);
  block.write = load(inputs_.k);
  block.dq =
      batch_product_nt(std::exchange(blocks_[index].dout, {}),
                       state_.expand({range.chunks.size(), -1, -1, -1, -1}));
  return block;
}

void BackwardSegment::finish(const at::Tensor& dstate,
                             const Gradients& gradients) {
  for (int index = 0; index < blocks(); ++index) {
    if (!blocks_[index].dq.defined()) prepare(index);
    Block block = std::exchange(blocks_[index], {});
    const BlockRange range = block_range(chunking_, tokens_.local, index);
    const std::int64_t chunks = range.chunks.size();
    at::Tensor dends;
    if (inputs_.causal) {
      const Range ends{range.chunks.begin + 1, range.chunks.end + 1};
      dends = dstates_.narrow(0, ends.begin, chunks);
      add_decayed(dends, suffix_, ends, dstate);
      if (block.suffix.defined()) {
        block.dk.addcmul_(batch_product_nt(block.v, dends), block.suffix);
      } else {
        add_product_nt(block.dk, block.v, dends);
      }
      add_product(block.dv, block.write, dends);
    } else {
      dends = dstate.expand({chunks, -1, -1, -1, -1});
      block.dk = batch_product_nt(block.v, dends);
      block.dv = batch_product(block.write, dends);
    }
    const Loader load{inputs_, tokens_, chunking_, range};
    if (gradients.gates.defined()) {
      const at::Tensor differences =
          sum_groups(block.q * block.dq, chunking_.chunk)
              .addcmul_(block.k, block.dk, -1);
      const at::Tensor dgates =
          gate_gradient(differences, block.ends, dends, block.factor);
      if (inputs_.decay == Decay::constant) {
        gradients.gates.add_(without_padding(dgates, range, chunking_.chunk)
                                 .sum({0, 1, 3, 4})
                                 .view({gradients.gates.size(0), -1})
                                 .sum(1));
      } else {
        load.store(dgates, gradients.gates);
      }
    }
    if (inputs_.scale != 1) block.dq.mul_(inputs_.scale);
    load.store(block.dq, gradients.q);
    load.store(block.dk, gradients.k);
    load.store(block.dv, gradients.v);
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
  const auto options = inputs.q.options().dtype(inputs.type);
  const at::Tensor logs =
      inputs.decay == Decay::none
          ? at::zeros({count, 1}, options)
          : at::tensor(lengths, options).unsqueeze(1) * constant_logs(inputs);
  logs.index_fill_(0, at::tensor(resets, options.dtype(at::kLong)), kReset);
  return logs.view({count, 1, logs.size(1), 1, 1});
}

}  // namespace ringweave::linear_attention
