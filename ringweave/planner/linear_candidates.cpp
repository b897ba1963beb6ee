#include "ringweave/planner/linear_candidates.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "ringweave/planner/cost/balance.h"
#include "ringweave/planner/cost/linear_cost.h"

namespace ringweave::planner {
namespace {

int most_of_a_rank(const std::vector<schedule::Segment>& segments, int ranks) {
  std::vector<int> of_rank(ranks);
  for (const schedule::Segment& segment : segments) ++of_rank[segment.rank];
  return std::max(1, *std::ranges::max_element(of_rank));
}

/// Whether some rank needs a state that others have made: some document goes on
/// from one segment, which is one rank's, to the next, which is another's.
bool states_travel(const std::vector<schedule::Segment>& segments,
                   const schedule::Mask& mask) {
  for (std::size_t i = 1; i < segments.size(); ++i) {
    if (!std::ranges::binary_search(mask.document_offsets(),
                                    segments[i].positions.begin)) {
      return true;
    }
  }
  return false;
}

Candidate candidate_of(ExchangeCost cost, double own_bytes) {
  Candidate candidate{.name = std::move(cost.name),
                      .reason = cost.why_not,
                      .forward = std::move(cost.forward),
                      .backward = std::move(cost.backward),
                      .memory_bytes = own_bytes + cost.buffer_bytes,
                      .by_formula = true};
  if (!cost.why_not.empty()) candidate.verdict = Verdict::impossible;
  return candidate;
}

/// Pipelined chains differ in their strands alone: leaves the fastest.
void keep_one_pipelined_chain(std::vector<Candidate>& candidates) {
  // With iterators: clang 14 can't read libstdc++'s subranges.
  const auto chains = std::stable_partition(
      candidates.begin(), candidates.end(), [](const Candidate& candidate) {
        return !candidate.name.starts_with("pipelined_chain");
      });
  if (chains == candidates.end()) return;
  const auto best = std::min_element(
      chains, candidates.end(), [](const Candidate& a, const Candidate& b) {
        return a.seconds() < b.seconds();
      });
  std::iter_swap(chains, best);
  candidates.erase(std::next(chains), candidates.end());
}

}  // namespace

LayerPlan linear_candidates(const PlanRequest& request,
                            const MachineLoads& machine) {
  const ModelShape& shape = request.shape;
  LayerPlan plan{.layers = shape.linear_layers()};
  if (plan.layers == 0) return plan;
  const std::vector<schedule::Segment> segments = request.layout.segments();
  const LinearCase linear{
      .shape = shape,
      .tokens = longest_shard(request.layout),
      .segments = most_of_a_rank(segments, request.layout.ranks()),
      .places = static_cast<int>(segments.size()),
      .causal = request.mask.is_causal(),
      .message_overhead_seconds = request.message_overhead_seconds};
  const Loads& loads = machine.loads();
  const double in = states_travel(segments, request.mask)
                        ? loads.best_in_rate()
                        : std::numeric_limits<double>::infinity();
  plan.forward_bound = linear_bound(linear, request.device_table, in, false);
  plan.backward_bound = linear_bound(linear, request.device_table, in, true);
  plan.exchange_bound =
      static_cast<double>(shape.state_numbers() * shape.sum_bytes()) / in;
  plan.own_bytes = linear.rank_bytes();
  for (ExchangeCost& cost :
       exchange_costs(linear, schedule::all_exchanges(request.machine.nodes()),
                      loads, request.device_table)) {
    plan.candidates.push_back(candidate_of(std::move(cost), plan.own_bytes));
  }
  keep_one_pipelined_chain(plan.candidates);
  return plan;
}

}  // namespace ringweave::planner
