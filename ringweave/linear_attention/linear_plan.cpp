#include "ringweave/linear_attention/linear_plan.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/strategy/chain_schedule.h"

namespace ringweave::linear_attention {
namespace {

constexpr const char* kAllGather = "all_gather";
constexpr const char* kChain = "chain";

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
  require(rank >= 0 && rank < spec.layout.ranks(),
          "[linear_attention] got rank {}; want 0 … {}", rank,
          spec.layout.ranks() - 1);
  const schedule::Mask& mask = spec.mask;
  mask.check_tokens(spec.layout.tokens());
  require(!mask.window().left && !mask.window().right,
          "[linear_attention] got a sliding window; want none: a state forgets "
          "by decay, not at a distance");
  require(mask.is_causal() || mask.document_offsets().empty(),
          "[linear_attention] got documents with a full mask; want a causal "
          "mask with documents, or a full mask without");
}

/// Nominal sizes: every strand of every part has one unit.
schedule::Schedule all_gather_schedule(const LinearPlan& plan,
                                       SummaryDemand::Readers readers) {
  const SummaryDemand demand(plan, readers, {plan.strands, plan.strands});
  return schedule::rank_part_of_summaries(plan.spec.transport.strategy, demand,
                                          plan.rank);
}

schedule::Schedule chain_schedule(const LinearPlan& plan, bool reverse,
                                  bool broadcast) {
  schedule::ChainSpec spec{plan.ranks(), {}, 1, reverse, broadcast};
  for (const LinearPlan::Piece& piece : plan.segments) {
    spec.segments.push_back({piece.rank, piece.part});
  }
  return schedule::chain_schedule(schedule::ChainDemand(std::move(spec)),
                                  plan.rank);
}

}  // namespace

Transport transport_from_name(const std::string& name) {
  if (name == kChain) return {Transport::Kind::chain, {}};
  const schedule::Strategy plain{schedule::StrategyKind::all_gather};
  if (name == kAllGather) return {Transport::Kind::all_gather, plain};
  const std::string prefix = std::string(kAllGather) + ":";
  require(name.starts_with(prefix),
          "[linear_attention] got transport \"{}\"; want chain, all_gather, or "
          "all_gather: followed by a strategy such as ring or multi_ring",
          name);
  return {Transport::Kind::all_gather,
          schedule::strategy_from_name(name.substr(prefix.size()))};
}

std::string name(const Transport& transport) {
  if (transport.kind == Transport::Kind::chain) return kChain;
  const std::string strategy = schedule::name(transport.strategy);
  return strategy == kAllGather ? strategy
                                : std::string(kAllGather) + ":" + strategy;
}

std::shared_ptr<const LinearPlan> make_linear_plan(const LinearSpec& spec,
                                                   Rank rank) {
  check(spec, rank);
  auto plan =
      std::make_shared<LinearPlan>(LinearPlan{.spec = spec, .rank = rank});
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
  if (plan->ranks() == 1) return plan;
  if (spec.transport.kind == Transport::Kind::chain) {
    plan->forward = chain_schedule(*plan, false, !plan->causal());
    plan->forward_all = chain_schedule(*plan, false, true);
    plan->backward = chain_schedule(*plan, true, !plan->causal());
  } else {
    plan->strands =
        schedule::strand_count(spec.transport.strategy, plan->ranks());
    plan->forward = all_gather_schedule(*plan, forward_readers(*plan, false));
    plan->forward_all =
        all_gather_schedule(*plan, forward_readers(*plan, true));
    plan->backward = all_gather_schedule(*plan, backward_readers(*plan));
  }
  return plan;
}

SummaryDemand::SummaryDemand(const LinearPlan& plan, Readers readers,
                             SummarySize size)
    : places_(plan.ranks()), readers_(readers), size_(size) {
  for (std::size_t place = 0; place < plan.segments.size(); ++place) {
    places_[plan.segments[place].rank].push_back(static_cast<int>(place));
  }
}

std::int64_t SummaryDemand::size(const schedule::BlockId& block,
                                 int strands) const {
  const bool decay = block.part < parts(block.owner) / 2;
  return cut({0, decay ? size_.decay : size_.update}, block.strand, strands)
      .size();
}

bool SummaryDemand::needs(Rank rank, const schedule::BlockId& block,
                          int strands) const {
  return size(block, strands) > 0 && needs(rank, block.owner, block.part);
}

bool SummaryDemand::needs(Rank rank, Rank owner, int part) const {
  if (readers_ == Readers::all) return true;
  if (places_[rank].empty()) return false;
  const int segments = parts(owner) / 2;
  if (part < segments || readers_ == Readers::holders) return true;
  const int place = places_[owner][part - segments];
  return readers_ == Readers::later ? places_[rank].back() > place
                                    : places_[rank].front() < place;
}

schedule::Schedule bind(const schedule::Schedule& nominal,
                        const schedule::Demand& demand, int strands) {
  schedule::Schedule result = nominal;
  for (schedule::Block& block : result.blocks) {
    block.size = demand.size(block.id, strands);
  }
  const auto empty = [&](const auto& item) {
    return demand.size(item.block, strands) == 0;
  };
  std::erase_if(result.blocks,
                [](const schedule::Block& block) { return block.size == 0; });
  std::erase_if(result.transfers, empty);
  std::erase_if(result.retained, empty);
  return result;
}

SummaryDemand::Readers forward_readers(const LinearPlan& plan, bool all) {
  if (all) return SummaryDemand::Readers::all;
  return plan.causal() ? SummaryDemand::Readers::later
                       : SummaryDemand::Readers::holders;
}

SummaryDemand::Readers backward_readers(const LinearPlan& plan) {
  return plan.causal() ? SummaryDemand::Readers::earlier
                       : SummaryDemand::Readers::holders;
}

}  // namespace ringweave::linear_attention
