#include "ringweave/models/context.h"

#include <set>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/convolution/convolution_plan.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::models {
namespace {

std::set<std::int64_t> sliding_windows(const ModelConfig& config) {
  std::set<std::int64_t> windows;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    if (!config.is_linear(i)) windows.insert(config.sliding_window(i));
  }
  return windows;
}

/// `documents`: the mask, with the documents of the rows.
std::shared_ptr<const attention::AttentionPlan> attention_plan(
    const Split& split, const schedule::Mask& documents, std::int64_t window,
    Rank rank) {
  return attention::make_attention_plan(
      {.strategy = split.softmax,
       .q_layout = split.layout,
       .kv_layout = split.layout,
       .mask = config::with_sliding_window(documents, window),
       .backward = split.backward},
      rank);
}

std::shared_ptr<const linear_attention::LinearPlan> linear_plan(
    const Split& split, const schedule::Mask& documents, Rank rank) {
  return linear_attention::make_linear_plan(
      {.exchange = split.linear, .layout = split.layout, .mask = documents},
      rank);
}

std::shared_ptr<const convolution::ConvolutionPlan> convolution_plan(
    const Split& split, const schedule::Mask& documents, std::int64_t width,
    Rank rank) {
  return convolution::make_convolution_plan(
      {.layout = split.layout, .width = width, .mask = documents}, rank);
}

/// Of rows with these documents, for the layers that `context` is for.
Plans make_plans(const Context& context, const schedule::Mask& documents) {
  const Rank rank = context.communicator->rank();
  Plans plans;
  for (const auto& [window, plan] : context.plans.attention) {
    plans.attention[window] =
        attention_plan(context.split, documents, window, rank);
  }
  if (context.plans.linear) {
    plans.linear = linear_plan(context.split, documents, rank);
  }
  if (const auto& whole = context.plans.convolution) {
    plans.convolution =
        convolution_plan(context.split, documents, whole->spec.width, rank);
  }
  return plans;
}

/// Document offsets as masks take them. A border behind the last token is one
/// of labels alone.
std::vector<std::int64_t> offsets_of(const Borders& borders,
                                     std::int64_t tokens) {
  std::vector<std::int64_t> offsets = {0};
  for (const std::int64_t border : borders) {
    require(border > offsets.back() && border <= tokens,
            "[model] got a document that starts at {} after one at {}; want "
            "sorted places within the {} tokens",
            border, offsets.back(), tokens);
    if (border < tokens) offsets.push_back(border);
  }
  offsets.push_back(tokens);
  return offsets;
}

RopeTables rope_tables(const ModelConfig& config, ElementType compute,
                       const std::vector<std::int64_t>& positions) {
  if (!config.has_rope()) return {};
  return make_rope(positions, config.head_dim, config.rope_theta,
                   tensor::scalar_type(accumulate_type(compute)),
                   config.rope_scaling);
}

}  // namespace

Context make_context(const ModelConfig& config, ElementType compute,
                     const Split& split, comm::Communicator& communicator) {
  require(split.layout.ranks() == communicator.size(),
          "[model] got a layout of {} ranks on {} ranks; want as many",
          split.layout.ranks(), communicator.size());
  const Rank rank = communicator.rank();
  const auto positions = split.layout.positions(rank);
  Context context{.split = split,
                  .communicator = &communicator,
                  .mask = config::whole_mask(config),
                  .positions = at::tensor(positions, at::kLong),
                  .rope = {},
                  .plans = {},
                  .rows = {},
                  .borders = {},
                  .attention_options = {},
                  .layer_done = {},
                  .step = nullptr,
                  .cache = nullptr};
  context.attention_options.grad_payload_in_compute_type =
      split.grad_payload_in_compute_type;
  const schedule::Mask& mask = context.mask;
  for (const std::int64_t window : sliding_windows(config)) {
    context.plans.attention[window] = attention_plan(split, mask, window, rank);
  }
  context.rope = rope_tables(config, compute, positions);
  if (config.has_linear()) {
    context.plans.linear = linear_plan(split, mask, rank);
    if (const std::int64_t width = config.linear.convolution(); width > 0) {
      context.plans.convolution = convolution_plan(split, mask, width, rank);
    }
  }
  return context;
}

Context behind(const Context& context, const ModelConfig& config,
               ElementType compute, std::int64_t past) {
  Context result = context;
  if (past == 0) return result;
  std::vector<std::int64_t> positions =
      context.layout().positions(context.communicator->rank());
  for (std::int64_t& position : positions) position += past;
  result.rope = rope_tables(config, compute, positions);
  return result;
}

Context at_positions(const ModelConfig& config, ElementType compute,
                     const std::vector<std::int64_t>& positions,
                     comm::Communicator& communicator) {
  return {.split = {.layout = schedule::Layout::contiguous(0, 1),
                    .softmax = {},
                    .linear = {},
                    .backward = false},
          .communicator = &communicator,
          .mask = config::whole_mask(config),
          .positions = at::tensor(positions, at::kLong),
          .rope = rope_tables(config, compute, positions),
          .plans = {},
          .rows = {},
          .borders = {},
          .attention_options = {},
          .layer_done = {},
          .step = nullptr,
          .cache = nullptr};
}

Context with_documents(const Context& context, std::vector<Borders> borders) {
  Context result = context;
  result.rows.clear();
  std::vector<std::int64_t> last;
  for (std::size_t i = 0; i < borders.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const auto offsets = offsets_of(borders[i], context.layout().tokens());
    if (i > 0 && offsets == last) {
      result.rows.back().rows.end = row + 1;
      continue;
    }
    const bool whole = offsets.size() == 2;
    result.rows.push_back(
        {.rows = {row, row + 1},
         .plans = whole ? context.plans
                        : make_plans(context,
                                     context.mask.with_documents(offsets))});
    last = offsets;
  }
  result.borders = std::move(borders);
  return result;
}

}  // namespace ringweave::models
