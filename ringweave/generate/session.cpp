#include "ringweave/generate/session.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "ringweave/base/error.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/threads.h"

namespace ringweave::generate {
namespace {

/// Contexts that are kept: of a chunk, and of what is left of a prompt.
constexpr std::size_t kContexts = 2;
/// Tokens behind a window for which there is memory: what is behind it is moved
/// once in so many tokens.
constexpr std::int64_t kBehindWindow = 64;

constexpr const char* kMoved = "last token to its owner";

/// The rank that holds the last position.
Rank last_rank(const schedule::Layout& layout) {
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    for (const schedule::Run& run : layout.runs(rank)) {
      if (run.length > 0 && run.end() == layout.tokens()) return rank;
    }
  }
  throw InternalError("bug in ringweave: a layout without a last token");
}

at::Tensor as_tensor(const std::vector<std::int64_t>& values) {
  return at::tensor(at::ArrayRef(values), at::kLong);
}

}  // namespace

void check_causal(const config::ModelConfig& model) {
  require(model.causal,
          "[generate] got an encoder (model.causal false); want a model that "
          "predicts the next token");
}

Session::Session(const models::Model& model, const SessionOptions& options,
                 comm::Communicator& communicator)
    : model_(model),
      options_(options),
      communicator_(communicator),
      cache_(model.config().layers, options.sequences, communicator.size()) {
  check_causal(model.config());
  require(options.sequences > 0, "[generate] got 0 sequences; want at least 1");
  require(options.chunk >= 0,
          "[generate] got chunks of {} tokens; want at "
          "least 1, or 0 for all at once",
          options.chunk);
  tensor::take_over_thread_count();
  chunk_context(1);  // refuses what can't be honoured
}

void Session::check(std::size_t sequence,
                    std::span<const std::int64_t> tokens) const {
  const config::ModelConfig& config = model_.config();
  require(sequence < sequences(), "[generate] got sequence {}; want 0 … {}",
          sequence, sequences() - 1);
  require(!tokens.empty(), "[generate] got no tokens; want at least 1");
  for (const std::int64_t token : tokens) {
    require(token >= 0 && token < config.vocab_size,
            "[generate] got the token {}; want 0 … {}, the model's vocabulary",
            token, config.vocab_size - 1);
  }
  const std::int64_t all =
      cache_.tokens[sequence] + static_cast<std::int64_t>(tokens.size());
  require(config.max_position_embeddings == 0 ||
              all <= config.max_position_embeddings,
          "[generate] got a sequence of {} tokens; want at most {}, the "
          "model's max_position_embeddings",
          all, config.max_position_embeddings);
}

void Session::reserve(std::size_t sequence, std::int64_t tokens) {
  const config::ModelConfig& config = model_.config();
  const at::Tensor like = at::empty({1, 0, config.kv_heads, config.head_dim},
                                    tensor::scalar_type(model_.compute()));
  const int ranks = communicator_.size();
  for (std::int64_t i = 0; i < config.layers; ++i) {
    if (config.is_linear(i)) continue;
    std::int64_t kept = (tokens + ranks - 1) / ranks;
    if (const std::int64_t window = config.sliding_window(i); window > 0) {
      kept = std::min(kept, window + kBehindWindow);
    }
    cache_.layers[static_cast<std::size_t>(i)].kv[sequence].reserve(kept, like);
  }
}

const models::Context& Session::chunk_context(std::int64_t tokens) {
  const auto found =
      std::ranges::find_if(chunks_, [&](const models::Context& context) {
        return context.layout().tokens() == tokens;
      });
  if (found != chunks_.end()) {
    chunks_.splice(chunks_.begin(), chunks_, found);
    return chunks_.front();
  }
  chunks_.push_front(
      models::make_context(model_.config(), model_.compute(),
                           {.layout = schedule::Layout::named(
                                options_.layout, tokens, communicator_.size()),
                            .softmax = options_.softmax,
                            .linear = options_.linear,
                            .backward = false},
                           communicator_));
  if (chunks_.size() > kContexts) chunks_.pop_back();
  return chunks_.front();
}

Logits Session::prefill(std::size_t sequence,
                        std::span<const std::int64_t> tokens) {
  check(sequence, tokens);
  const at::NoGradGuard no_gradients;
  const std::size_t chunk = options_.chunk == 0
                                ? tokens.size()
                                : static_cast<std::size_t>(options_.chunk);
  at::Tensor last;
  Rank holder = 0;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const auto part =
        tokens.subspan(begin, std::min(chunk, tokens.size() - begin));
    last = prefill_chunk(sequence, part);
    holder = last_rank(
        chunk_context(static_cast<std::int64_t>(part.size())).layout());
  }
  const Rank to = owner(sequence);
  last = moved(last, holder, to);
  return to == communicator_.rank() ? logits_of({sequence}, last) : Logits();
}

at::Tensor Session::prefill_chunk(std::size_t sequence,
                                  std::span<const std::int64_t> tokens) {
  const models::Context& context =
      chunk_context(static_cast<std::int64_t>(tokens.size()));
  const schedule::Layout& layout = context.layout();
  const std::int64_t past = cache_.tokens[sequence];
  std::vector<std::vector<attention::CachedQuery>> queries(
      static_cast<std::size_t>(layout.ranks()));
  for (Rank rank = 0; past > 0 && rank < layout.ranks(); ++rank) {
    for (const std::int64_t position : layout.positions(rank)) {
      queries[rank].push_back({sequence, past + position});
    }
  }
  const models::CacheStep step{
      .cache = &cache_,
      .queries = attention::CachedQueries(std::move(queries), cache_.kept),
      .split = true,
      .sequence = sequence,
      .past = past};
  models::Context with_step =
      models::behind(context, model_.config(), model_.compute(), past);
  with_step.step = &step;
  const at::Tensor ids =
      at::tensor(at::ArrayRef(tokens.data(), tokens.size()), at::kLong)
          .unsqueeze(0)
          .index_select(1, context.positions);
  const at::Tensor hidden = model_.hidden(ids, with_step, &cache_);
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    cache_.kept[sequence][rank] += layout.shard_tokens(rank);
  }
  cache_.tokens[sequence] += layout.tokens();
  if (hidden.size(1) == 0) return {};
  // The last position is the last of its rank's tokens, which ascend. A copy:
  // a view would keep the whole chunk's.
  return hidden.select(0, 0).narrow(0, hidden.size(1) - 1, 1).clone();
}

at::Tensor Session::moved(const at::Tensor& row, Rank from, Rank to) {
  if (from == to) return row;
  const Rank rank = communicator_.rank();
  if (rank == from) {
    const at::Tensor sent = row.contiguous();
    communicator_.wait(*communicator_.send(to, device::buffer_of(sent)),
                       kMoved);
  }
  if (rank != to) return {};
  const at::Tensor received = at::empty({1, model_.config().hidden},
                                        tensor::scalar_type(model_.compute()));
  communicator_.wait(*communicator_.receive(from, device::buffer_of(received)),
                     kMoved);
  return received;
}

Rank Session::keeper(std::size_t sequence) const {
  const std::vector<std::int64_t>& kept = cache_.kept[sequence];
  return static_cast<Rank>(std::ranges::min_element(kept) - kept.begin());
}

Logits Session::decode(const std::vector<std::size_t>& sequences,
                       const std::vector<std::int64_t>& tokens) {
  require(sequences.size() == tokens.size(),
          "[generate] got {} tokens for {} sequences; want one each",
          tokens.size(), sequences.size());
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    require(i == 0 || sequences[i - 1] < sequences[i],
            "[generate] got sequence {} behind {}; want ascending ones",
            sequences[i], sequences[i == 0 ? 0 : i - 1]);
    check(sequences[i], std::span(&tokens[i], 1));
    require(cache_.tokens[sequences[i]] > 0,
            "[generate] got a token for sequence {}, which is empty; want a "
            "prompt first",
            sequences[i]);
  }
  const at::NoGradGuard no_gradients;
  std::vector<std::vector<attention::CachedQuery>> queries(
      static_cast<std::size_t>(communicator_.size()));
  std::vector<std::size_t> own;
  std::vector<std::int64_t> ids, positions, places;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::size_t sequence = sequences[i];
    const std::int64_t position = cache_.tokens[sequence];
    queries[owner(sequence)].push_back({sequence, position, keeper(sequence)});
    if (owner(sequence) != communicator_.rank()) continue;
    own.push_back(sequence);
    ids.push_back(tokens[i]);
    positions.push_back(position);
    places.push_back(cache_.place(sequence));
  }
  const models::CacheStep step{
      .cache = &cache_,
      .queries = attention::CachedQueries(std::move(queries), cache_.kept),
      .split = false,
      .places = as_tensor(places)};
  models::Context context = models::at_positions(
      model_.config(), model_.compute(), positions, communicator_);
  context.step = &step;
  const at::Tensor hidden =
      model_.hidden(as_tensor(ids).unsqueeze(0), context, &cache_);
  for (const std::size_t sequence : sequences) {
    ++cache_.kept[sequence][keeper(sequence)];
    ++cache_.tokens[sequence];
  }
  return logits_of(std::move(own), hidden.select(0, 0));
}

Logits Session::logits_of(std::vector<std::size_t> sequences,
                          const at::Tensor& hidden) const {
  return {std::move(sequences), model_.logits(hidden)};
}

std::int64_t Session::kv_bytes() const {
  std::int64_t bytes = 0;
  for (const models::LayerCache& layer : cache_.layers) {
    for (const attention::KvCache& cache : layer.kv) bytes += cache.bytes();
  }
  return bytes;
}

std::int64_t Session::state_bytes() const {
  std::int64_t bytes = 0;
  for (const models::LayerCache& layer : cache_.layers) {
    for (const at::Tensor& kept : {layer.states, layer.tails}) {
      if (kept.defined()) bytes += static_cast<std::int64_t>(kept.nbytes());
    }
  }
  return bytes;
}

}  // namespace ringweave::generate
