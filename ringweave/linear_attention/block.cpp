#include "ringweave/linear_attention/block.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include <ATen/ATen.h>

#include "ringweave/linear_attention/chunk.h"
#include "ringweave/schedule/linear_chunk.h"

namespace ringweave::linear_attention {
namespace {

/// Elements of one operand of a block: 1 MiB in fp32, so that the ten or so
/// operands of a block stay in the cache.
constexpr std::int64_t kBlockElements = 1 << 18;

}  // namespace

std::int64_t Inputs::state_heads() const {
  const std::int64_t heads = std::lcm(k.size(2), v.size(2));
  if (!gates.defined()) return heads;
  return std::lcm(heads, gates.size(decay == Decay::constant ? 0 : 2));
}

Chunking::Chunking(const Inputs& inputs, std::int64_t tokens)
    : tokens(tokens),
      chunk(std::min<std::int64_t>(
          schedule::kLinearChunk,
          std::bit_ceil(static_cast<std::uint64_t>(tokens)))),
      chunks((tokens + chunk - 1) / chunk) {
  const std::int64_t widest =
      std::max({inputs.key_dim(), inputs.value_dim(), chunk});
  const std::int64_t chunk_elements =
      std::max<std::int64_t>(1, inputs.batch() * inputs.out_heads()) * chunk *
      widest;
  const std::int64_t fit =
      std::clamp<std::int64_t>(kBlockElements / chunk_elements, 1, kStretch);
  per_block = static_cast<std::int64_t>(
      std::bit_floor(static_cast<std::uint64_t>(fit)));
}

int Chunking::blocks() const {
  return static_cast<int>((chunks + per_block - 1) / per_block);
}

std::vector<bool> cut_chunks(const SegmentTokens& tokens,
                             const Chunking& chunking) {
  std::vector<bool> result(chunking.chunks);
  for (const std::int64_t token : tokens.resets) {
    result[token / chunking.chunk] = true;
  }
  return result;
}

at::Tensor constant_logs(const Inputs& inputs) {
  const std::int64_t heads = inputs.state_heads();
  const at::Tensor logs = inputs.gates.to(inputs.type).unsqueeze(1);
  return logs.expand({-1, heads / logs.size(0)}).reshape({heads});
}

BlockLoader::BlockLoader(const Inputs& inputs, const SegmentTokens& tokens,
                         const Chunking& chunking, int block)
    : inputs_(inputs), tokens_(tokens), chunk_(chunking.chunk) {
  chunks_.begin = block * chunking.per_block;
  chunks_.end = std::min(chunks_.begin + chunking.per_block, chunking.chunks);
  local_ = {chunks_.begin * chunk_,
            std::min(chunks_.end * chunk_, chunking.tokens)};
}

Documents BlockLoader::documents() const {
  const auto& resets = tokens_.resets;
  std::vector<std::int64_t> starts;
  for (auto token =
           std::lower_bound(resets.begin(), resets.end(), local_.begin);
       token != resets.end() && *token < local_.end; ++token) {
    starts.push_back(*token - local_.begin);
  }
  return {starts, chunks_.size(), chunk_, inputs_.q.device()};
}

at::Tensor BlockLoader::load(const at::Tensor& x) const {
  return to_chunks(x, inputs_.state_heads(), tokens_.local.begin + local_.begin,
                   local_.size(), chunk_, inputs_.type);
}

at::Tensor BlockLoader::scaled_q() const {
  const at::Tensor q = load(inputs_.q);
  return inputs_.scale == 1 ? q : q.mul_(inputs_.scale);
}

void BlockLoader::store(const at::Tensor& chunks, const at::Tensor& x) const {
  from_chunks(chunks, x, tokens_.local.begin + local_.begin, local_.size(),
              chunk_);
}

/// `per_chunk`: chunks are to differ.
at::Tensor BlockLoader::constant_logs(bool per_chunk) const {
  const at::Tensor logs =
      linear_attention::constant_logs(inputs_).view({1, 1, -1, 1, 1});
  const bool padded = local_.size() % chunk_ > 0;
  const std::int64_t chunks = per_chunk || padded ? chunks_.size() : 1;
  // A copy, always: resets and padding are written into it.
  return without_padding(logs.expand({chunks, 1, -1, chunk_, 1})
                             .clone(at::MemoryFormat::Contiguous));
}

at::Tensor BlockLoader::logs(const Documents& documents) const {
  if (!inputs_.causal) return {};
  at::Tensor logs;
  switch (inputs_.decay) {
    case Decay::none:
      if (!documents.starts.defined()) return {};
      logs =
          at::zeros({chunks_.size(), 1, 1, chunk_, 1}, inputs_.state_options());
      break;
    case Decay::constant:
      logs = constant_logs(documents.starts.defined());
      break;
    case Decay::per_head:
    case Decay::per_key:
      logs = load(inputs_.gates);
      break;
  }
  return replace(logs, documents.starts,
                 -std::numeric_limits<double>::infinity());
}

ChunkDecays BlockLoader::chunk_decays(const at::Tensor& logs) const {
  if (!logs.defined() || inputs_.decay == Decay::none) return {};
  // Four at a time in the states' type, for a quarter of the work in fp64.
  const std::int64_t four = std::min<std::int64_t>(chunk_, 4);
  const at::Tensor sums = logs.unflatten(-2, {four, -1})
                              .sum(-3)
                              .sum(-2, false, at::kDouble)
                              .unsqueeze(-1);
  std::vector<std::int64_t> shape = sums.sizes().vec();
  shape.front() = chunks_.size();
  return {sums.expand(shape), sums.exp().to(inputs_.type).expand(shape)};
}

at::Tensor BlockLoader::without_padding(const at::Tensor& x) const {
  const std::int64_t rest = local_.size() % chunk_;
  if (rest > 0) {
    x.select(0, chunks_.size() - 1).narrow(2, rest, chunk_ - rest).zero_();
  }
  return x;
}

}  // namespace ringweave::linear_attention
