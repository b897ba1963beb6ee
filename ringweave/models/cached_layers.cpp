#include "ringweave/models/cached_layers.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/attention/merge.h"
#include "ringweave/base/error.h"
#include "ringweave/convolution/advance.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/linear_attention/advance.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::models {
namespace {

using attention::KvCache;
using attention::Partial;
using linear_attention::Decay;

constexpr const char* kSpreadState = "state to all ranks";
constexpr const char* kSpreadTail = "last inputs to all ranks";

attention::CachedOptions options_of(const at::Tensor& q, std::int64_t window) {
  return {.sliding_window = window,
          .scale = 1 / std::sqrt(static_cast<double>(q.size(3)))};
}

/// Of keys whose query comes next at `position`.
void forget(KvCache& cache, std::int64_t window, std::int64_t position) {
  if (window > 0) cache.forget_before(position - window + 1);
}

/// Adds those new keys of this rank that later tokens see.
void append(const at::Tensor& k, const at::Tensor& v, std::int64_t window,
            const Context& context) {
  const CacheStep& step = *context.step;
  KvCache& cache = context.cache->kv[step.sequence];
  const std::int64_t end = step.past + context.layout().tokens();
  std::vector<std::int64_t> positions =
      context.layout().positions(context.communicator->rank());
  for (std::int64_t& position : positions) position += step.past;
  const std::int64_t first_seen = window > 0 ? end - window + 1 : 0;
  const std::int64_t hidden =
      std::ranges::lower_bound(positions, first_seen) - positions.begin();
  forget(cache, window, end);
  const auto seen = static_cast<std::int64_t>(positions.size()) - hidden;
  cache.append(k.narrow(1, hidden, seen), v.narrow(1, hidden, seen),
               std::span(positions).subspan(static_cast<std::size_t>(hidden)));
}

/// Of tokens that are split: to each other by schedules, to the cache by
/// queries that travel.
at::Tensor split_softmax(const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, std::int64_t window,
                         const Context& context) {
  const CacheStep& step = *context.step;
  const attention::AttentionResult own =
      attention::attention(q, k, v, context.plans.attention.at(window),
                           *context.communicator, context.attention_options);
  at::Tensor out = own.out;
  if (step.past > 0) {
    const Partial total = attention::attention_to_caches(
        q, {}, {}, step.queries, context.cache->kv, options_of(q, window),
        *context.communicator);
    attention::merge_into(total,
                          {own.out.to(total.out.scalar_type()), own.lse});
    out = total.out.to(q.scalar_type());
  }
  append(k, v, window, context);
  return out;
}

at::Tensor single_softmax(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v, std::int64_t window,
                          const Context& context) {
  const attention::CachedQueries& queries = context.step->queries;
  attention::CachedOptions options = options_of(q, window);
  // A few rows: all of them at once, in one hop each way.
  options.ahead = std::max(1, queries.ranks() - 1);
  const Partial total = attention::attention_to_caches(
      q, k, v, queries, context.cache->kv, options, *context.communicator);
  for (Rank rank = 0; rank < queries.ranks(); ++rank) {
    for (const auto& [sequence, position, keeper] : queries.of(rank)) {
      forget(context.cache->kv[sequence], window, position + 1);
    }
  }
  return total.out.to(q.scalar_type());
}

/// Row of the sequence, from its owner's `all`, on all ranks: of `shape`, whose
/// first size is 1.
at::Tensor spread(const at::Tensor& all, const std::vector<std::int64_t>& shape,
                  at::ScalarType type, const Context& context,
                  const char* operation) {
  comm::Communicator& ranks = *context.communicator;
  const CacheStep& step = *context.step;
  const Rank owner = step.cache->owner(step.sequence);
  at::Tensor row =
      owner == ranks.rank()
          ? all.narrow(0, step.cache->place(step.sequence), 1).contiguous()
          : at::empty(shape, type);
  ranks.broadcast(device::buffer_of(row), owner, operation);
  return row;
}

/// Puts the row of the sequence into its owner's `all`; others do nothing.
void keep(const at::Tensor& row, at::Tensor& all, const Context& context) {
  const CacheStep& step = *context.step;
  const Rank rank = context.communicator->rank();
  if (step.cache->owner(step.sequence) != rank) return;
  if (!all.defined()) {
    std::vector<std::int64_t> shape = row.sizes().vec();
    shape[0] = step.cache->owned(rank);
    all = at::zeros(shape, row.options());
  }
  all.narrow(0, step.cache->place(step.sequence), 1).copy_(row);
}

/// Calls advance(rows) with the rows of `all` of this rank's tokens, which it
/// may change; returns what it returns.
template <typename Advance>
at::Tensor advanced(at::Tensor& all, const Context& context,
                    const Advance& advance) {
  const at::Tensor& places = context.step->places;
  if (places.size(0) == all.size(0)) return advance(all);
  const at::Tensor taken = all.index_select(0, places);
  const at::Tensor out = advance(taken);
  all.index_copy_(0, places, taken);
  return out;
}

at::Tensor split_linear(const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v, Decay decay,
                        const at::Tensor& gates, const Context& context,
                        linear_attention::LinearOptions options) {
  options.final_state = true;
  at::Tensor before;
  if (context.step->past > 0) {
    before =
        spread(context.cache->states,
               linear_attention::state_shape(q, k, v, decay, gates),
               tensor::accumulate_type(q.scalar_type()), context, kSpreadState);
  }
  const linear_attention::LinearResult result =
      linear_attention::linear_attention(q, k, v, decay, gates, before,
                                         context.plans.linear,
                                         *context.communicator, options);
  keep(result.final_state, context.cache->states, context);
  return result.out;
}

at::Tensor single_linear(const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, Decay decay,
                         const at::Tensor& gates, const Context& context,
                         const linear_attention::LinearOptions& options) {
  const auto of_sequences = [](const at::Tensor& x) { return x.select(0, 0); };
  const bool per_token = decay == Decay::per_head || decay == Decay::per_key;
  if (q.size(1) == 0) {
    const std::int64_t heads =
        linear_attention::state_shape(q, k, v, decay, gates)[1];
    return at::empty({1, 0, std::max(q.size(2), heads), v.size(3)},
                     v.options());
  }
  return advanced(context.cache->states, context,
                  [&](const at::Tensor& states) {
                    return linear_attention::advance(
                        of_sequences(q), of_sequences(k), of_sequences(v),
                        decay, per_token ? of_sequences(gates) : gates,
                        options.scale, states);
                  })
      .unsqueeze(0);
}

at::Tensor split_convolution(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& bias, const Context& context) {
  at::Tensor before;
  if (context.step->past > 0) {
    before = spread(context.cache->tails, {1, weight.size(1) - 1, x.size(2)},
                    x.scalar_type(), context, kSpreadTail);
  }
  const convolution::ConvolutionResult result = convolution::causal_convolution(
      x, weight, bias, before, context.plans.convolution, *context.communicator,
      {.final_state = true});
  keep(result.final_state, context.cache->tails, context);
  return result.out;
}

at::Tensor single_convolution(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias, const Context& context) {
  if (x.size(1) == 0) return at::empty_like(x);
  return advanced(context.cache->tails, context,
                  [&](const at::Tensor& tails) {
                    return convolution::advance(x.select(0, 0), weight, bias,
                                                tails);
                  })
      .unsqueeze(0);
}

}  // namespace

at::Tensor cached_softmax_attention(const at::Tensor& q, const at::Tensor& k,
                                    const at::Tensor& v,
                                    std::int64_t sliding_window,
                                    const Context& context) {
  return context.step->split ? split_softmax(q, k, v, sliding_window, context)
                             : single_softmax(q, k, v, sliding_window, context);
}

at::Tensor cached_linear_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Decay decay,
    const at::Tensor& gates, const Context& context,
    const linear_attention::LinearOptions& options) {
  return context.step->split
             ? split_linear(q, k, v, decay, gates, context, options)
             : single_linear(q, k, v, decay, gates, context, options);
}

at::Tensor cached_convolution(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias, const Context& context) {
  return context.step->split ? split_convolution(x, weight, bias, context)
                             : single_convolution(x, weight, bias, context);
}

}  // namespace ringweave::models
