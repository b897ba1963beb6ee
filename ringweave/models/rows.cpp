#include "ringweave/models/rows.h"

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/models/cached_layers.h"
#include "ringweave/models/context.h"

namespace ringweave::models {
namespace {

/// Calls attend(rows, plans) for all rows of a batch of that size; joins what
/// it returns.
template <typename Attend>
at::Tensor for_rows(std::int64_t batch, const Context& context,
                    const Attend& attend) {
  if (context.rows.empty()) return attend(Range{0, batch}, context.plans);
  require(batch == context.rows.back().rows.end,
          "[model] got a batch of {} rows; want {}, whose documents the "
          "context has",
          batch, context.rows.back().rows.end);
  std::vector<at::Tensor> parts;
  for (const auto& [rows, plans] : context.rows) {
    parts.push_back(attend(rows, plans));
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts, 0);
}

at::Tensor part(const at::Tensor& x, const Range& rows) {
  return rows.size() == x.size(0) ? x : x.narrow(0, rows.begin, rows.size());
}

}  // namespace

at::Tensor softmax_attention(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, std::int64_t sliding_window,
                             const Context& context) {
  if (context.cache) {
    return cached_softmax_attention(q, k, v, sliding_window, context);
  }
  return for_rows(
      q.size(0), context, [&](const Range& rows, const Plans& plans) {
        return attention::attention(part(q, rows), part(k, rows), part(v, rows),
                                    plans.attention.at(sliding_window),
                                    *context.communicator,
                                    context.attention_options)
            .out;
      });
}

at::Tensor linear_attention(const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, linear_attention::Decay decay,
                            const at::Tensor& gates, const Context& context,
                            const linear_attention::LinearOptions& options) {
  using linear_attention::Decay;
  if (context.cache) {
    return cached_linear_attention(q, k, v, decay, gates, context, options);
  }
  const bool per_token = decay == Decay::per_head || decay == Decay::per_key;
  return for_rows(q.size(0), context,
                  [&](const Range& rows, const Plans& plans) {
                    return linear_attention::linear_attention(
                               part(q, rows), part(k, rows), part(v, rows),
                               decay, per_token ? part(gates, rows) : gates, {},
                               plans.linear, *context.communicator, options)
                        .out;
                  });
}

at::Tensor short_convolution(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& bias, const Context& context) {
  if (context.cache) return cached_convolution(x, weight, bias, context);
  return for_rows(
      x.size(0), context, [&](const Range& rows, const Plans& plans) {
        return convolution::causal_convolution(part(x, rows), weight, bias, {},
                                               plans.convolution,
                                               *context.communicator)
            .out;
      });
}

}  // namespace ringweave::models
