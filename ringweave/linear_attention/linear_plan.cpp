#include "ringweave/linear_attention/linear_plan.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::linear_attention {
namespace {

/// Document starts inside a segment, counted from its first token. Position 0
/// is none: the first document continues from the initial state.
std::vector<std::int64_t> resets_in(const Range& positions,
                                    const schedule::Mask& mask) {
  std::vector<std::int64_t> result;
  const std::vector<std::int64_t>& starts = mask.document_offsets();
  const std::int64_t first = std::max<std::int64_t>(1, positions.begin);
  for (auto start = std::lower_bound(starts.begin(), starts.end(), first);
       start != starts.end() && *start < positions.end; ++start) {
    result.push_back(*start - positions.begin);
  }
  return result;
}

void check(const LinearSpec& spec, Rank rank) {
  require(spec.exchange != nullptr,
          "[linear_attention] got no exchange; want one from "
          "state_exchange_from_name");
  if (spec.layout.ranks() > 1) spec.exchange->strands(spec.layout.ranks());
  require(rank >= 0 && rank < spec.layout.ranks(),
          "[linear_attention] got rank {}; want 0 … {}", rank,
          spec.layout.ranks() - 1);
  const schedule::Mask& mask = spec.mask;
  require(mask.is_standard(),
          "[linear_attention] got the mask {}; want full, or causal with or "
          "without documents",
          mask.text());
  mask.check_tokens(spec.layout.tokens());
  require(!mask.window().left && !mask.window().right,
          "[linear_attention] got a sliding window; want none: a state forgets "
          "by decay, not at a distance");
  require(mask.is_causal() || mask.document_offsets().empty(),
          "[linear_attention] got documents with a full mask; want a causal "
          "mask with documents, or a full mask without");
}

}  // namespace

std::shared_ptr<const LinearPlan> make_linear_plan(const LinearSpec& spec,
                                                   Rank rank) {
  check(spec, rank);
  auto plan = std::make_shared<LinearPlan>(spec, rank);
  plan->facts = {{"layout", comm::abridged(spec.layout.to_json().dump())},
                 {"mask", comm::abridged(spec.mask.to_json().dump())},
                 {"exchange", spec.exchange->name()}};
  std::vector<int> parts(plan->ranks());
  for (const schedule::Segment& segment : spec.layout.segments()) {
    if (segment.rank == rank) {
      plan->own.push_back(static_cast<int>(plan->segments.size()));
    }
    plan->segments.push_back(
        {segment.rank,
         parts[segment.rank]++,
         {{segment.local, segment.local + segment.positions.size()},
          resets_in(segment.positions, spec.mask)}});
  }
  return plan;
}

std::shared_ptr<const schedule::ExchangeProgram> LinearPlan::program(
    schedule::Pass pass, bool end_everywhere,
    const schedule::SummaryShape& shape) const {
  const std::lock_guard lock(mutex_);
  auto& program = programs_[{pass, end_everywhere, shape}];
  if (!program) {
    schedule::StateDemand states{.ranks = ranks(),
                                 .segments = {},
                                 .pass = pass,
                                 .causal = causal(),
                                 .end_everywhere = end_everywhere,
                                 .summary = shape};
    for (const Piece& piece : segments) {
      states.segments.push_back({piece.rank, piece.part});
    }
    program = std::make_shared<const schedule::ExchangeProgram>(
        schedule::compile(*spec.exchange, states, rank));
  }
  return program;
}

}  // namespace ringweave::linear_attention
