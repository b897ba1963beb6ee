#include "ringweave/planner/softmax_candidates.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/parallel.h"
#include "ringweave/planner/cost/attention_work.h"
#include "ringweave/planner/cost/balance.h"
#include "ringweave/planner/cost/closed_form.h"
#include "ringweave/planner/cost/modelled.h"
#include "ringweave/planner/exchange_bound.h"

namespace ringweave::planner {
namespace {

/// Up to so many transfers of a pass, over all compared strategies, these are
/// priced event by event: where formulas hold, and where none does. Beyond the
/// second number the strategies with most transfers are left out. 64 ranks have
/// about 1.3e6 transfers in all.
constexpr double kManyTransfers = 5e5;
constexpr double kTooManyTransfers = 2e6;
/// Formulas give 0.85 to 1.14 times what event by event comes to
/// (closed_form_test.cpp). So a strategy that by formula takes 1.14 / 0.85
/// times the fastest one's time is slower by either method.
constexpr double kCoarse = 1.35;

std::vector<schedule::Strategy> softmax_strategies(const PlanRequest& request) {
  const int n = request.machine.ranks();
  const int nodes = request.machine.nodes();
  std::vector<schedule::Strategy> strategies = {
      {.kind = schedule::StrategyKind::multi_ring},
      {.kind = schedule::StrategyKind::time_varying_multi_ring},
      {.kind = schedule::StrategyKind::ring},
      {.kind = schedule::StrategyKind::ring, .reverse = true}};
  for (const int strands : {1, 2, 4, 8}) {
    if (strands < std::max(2, n - 1)) {
      strategies.push_back(
          {.kind = schedule::StrategyKind::direct, .strands = strands});
    }
  }
  strategies.push_back({.kind = schedule::StrategyKind::direct});
  strategies.push_back({.kind = schedule::StrategyKind::all_gather});
  if (nodes > 1) {
    strategies.push_back(
        {.kind = schedule::StrategyKind::paths, .nodes = nodes});
    strategies.push_back(
        {.kind = schedule::StrategyKind::double_ring, .nodes = nodes});
    for (const auto inner :
         {schedule::StrategyKind::direct, schedule::StrategyKind::multi_ring}) {
      for (const int slices : {1, 4, 8}) {
        strategies.push_back({.kind = schedule::StrategyKind::hierarchical,
                              .nodes = nodes,
                              .slices = slices,
                              .inner = inner});
      }
    }
  }
  for (const Searched& searched : request.searched) {
    if (searched.strategy) strategies.push_back(*searched.strategy);
  }
  return strategies;
}

/// Every strand of every owner reaches each other rank once.
double transfers_of(const schedule::Strategy& strategy, int ranks) {
  return static_cast<double>(ranks) * (ranks - 1) *
         schedule::strand_count(strategy, ranks);
}

class SoftmaxPlanner {
 public:
  SoftmaxPlanner(const PlanRequest& request, const MachineLoads& machine)
      : request_(request),
        network_(machine.network()),
        loads_(machine.loads()),
        demand_(request.layout, request.layout, request.mask),
        balanced_(is_balanced(request.layout, request.mask)) {
    heads_ = static_cast<double>(request.shape.heads * request.shape.batch);
    find_areas();
  }

  LayerPlan plan() const {
    LayerPlan plan{.layers = request_.shape.softmax_layers()};
    plan.exchange_bound = exchange_bound(schedule::Pass::forward);
    plan.forward_bound = bound(schedule::Pass::forward, plan.exchange_bound);
    plan.backward_bound = bound(schedule::Pass::backward,
                                exchange_bound(schedule::Pass::backward));
    plan.own_bytes = own_bytes();
    for (const schedule::Strategy& strategy : softmax_strategies(request_)) {
      plan.candidates.push_back(unpriced(strategy));
    }
    price(plan.candidates);
    if (request_.machine.ranks() > 1) add_absent(plan);
    add_modelled(plan);
    return plan;
  }

 private:
  // Of the rank with the most to compute; and what the formulas want.
  void find_areas() {
    const int n = demand_.ranks();
    if (balanced_) {
      // All ranks are alike, to a token; a middle one stands for them.
      Rank rank = n / 2;
      while (request_.layout.shard_tokens(rank) <
             longest_shard(request_.layout)) {
        rank = (rank + 1) % n;
      }
      own_area_ = pair_area(demand_, rank, rank);
      for (Rank owner = 0; owner < n; ++owner) {
        largest_area_ += pair_area(demand_, rank, owner);
      }
      block_area_ =
          n > 1 ? (largest_area_ - own_area_) / static_cast<double>(n - 1) : 0;
      return;
    }
    for (Rank rank = 0; rank < n; ++rank) {
      double area = 0;
      for (Rank owner = 0; owner < n; ++owner) {
        area += pair_area(demand_, rank, owner);
      }
      largest_area_ = std::max(largest_area_, area);
    }
  }

  double unit_bytes(schedule::Pass pass) const {
    return static_cast<double>(pass == schedule::Pass::forward
                                   ? request_.shape.kv_token_bytes()
                                   : request_.shape.grad_token_bytes());
  }

  double tile_seconds(double area, schedule::Pass pass) const {
    return request_.device_table.tile_seconds(
        area * heads_, static_cast<int>(request_.shape.head_dim),
        pass == schedule::Pass::backward);
  }

  double exchange_bound(schedule::Pass pass) const {
    return planner::exchange_bound(request_.machine, demand_, pass,
                                   unit_bytes(pass));
  }

  double bound(schedule::Pass pass, double exchange) const {
    return std::max(exchange, request_.device_table.least_seconds(
                                  largest_area_ * heads_,
                                  static_cast<int>(request_.shape.head_dim),
                                  pass == schedule::Pass::backward));
  }

  double own_bytes() const {
    return static_cast<double>(longest_shard(request_.layout)) *
           (unit_bytes(schedule::Pass::forward) +
            unit_bytes(schedule::Pass::backward));
  }

  // Retained by every layer; slots are shared by all of them.
  double memory(double retained, double forward_slots,
                double backward_slots) const {
    const auto layers = static_cast<double>(request_.shape.softmax_layers());
    return own_bytes() + layers * retained +
           std::max(forward_slots, backward_slots);
  }

  Candidate unpriced(const schedule::Strategy& strategy) const {
    Candidate result{.name = schedule::name(strategy), .strategy = strategy};
    if (auto reason = schedule::why_not(strategy, request_.machine.ranks())) {
      result.verdict = Verdict::impossible;
      result.reason = std::move(*reason);
    }
    return result;
  }

  // What is compared has to be priced alike: everything event by event, if that
  // is affordable. Else everything is priced by formula, and all that comes
  // near the fastest again event by event, if that is affordable. A strategy
  // without a formula is priced event by event in any case.
  void price(std::vector<Candidate>& candidates) const {
    std::vector<Candidate*> open;
    for (Candidate& candidate : candidates) {
      if (candidate.verdict != Verdict::impossible) open.push_back(&candidate);
    }
    if (balanced_ && (!network_ || !affordable(open))) {
      std::vector<Candidate*> formed;
      std::vector<Candidate*> formless;
      for (Candidate* candidate : open) {
        (predict_by_formula(*candidate) ? formed : formless)
            .push_back(candidate);
      }
      open = std::move(formless);
      const auto leaders = near_the_fastest(formed);
      if (network_ && affordable(leaders)) {
        open.insert(open.end(), leaders.begin(), leaders.end());
      }
    }
    // Those with fewest transfers first, until together they are too many.
    std::ranges::stable_sort(open, {}, [&](const Candidate* candidate) {
      return transfers_of(*candidate->strategy, request_.machine.ranks());
    });
    double transfers = 0;
    std::vector<Candidate*> few;
    for (Candidate* candidate : open) {
      const double more =
          transfers_of(*candidate->strategy, request_.machine.ranks());
      if (network_ && transfers + more <= kTooManyTransfers) {
        transfers += more;
        few.push_back(candidate);
      } else {
        leave_out(*candidate, more);
      }
    }
    std::ranges::reverse(few);  // what takes longest begins first
    for_each_on_all_cores(static_cast<int>(few.size()),
                          [&](int i) { predict(*few[i]); });
  }

  void leave_out(Candidate& result, double transfers) const {
    result.verdict = Verdict::impossible;
    result.reason = fmt::format(
        "{:.2g} transfers are too many to predict one by one (together with "
        "those of strategies with fewer, {:.2g} are not), and no formula holds "
        "for this layout, mask and strategy",
        transfers, kTooManyTransfers);
  }

  bool affordable(const std::vector<Candidate*>& candidates) const {
    double transfers = 0;
    for (const Candidate* candidate : candidates) {
      transfers += transfers_of(*candidate->strategy, request_.machine.ranks());
    }
    return transfers <= kManyTransfers;
  }

  // Of those that fit in memory.
  std::vector<Candidate*> near_the_fastest(
      const std::vector<Candidate*>& candidates) const {
    std::vector<Candidate*> fitting;
    double fastest = std::numeric_limits<double>::infinity();
    for (Candidate* candidate : candidates) {
      if (candidate->memory_bytes >
          request_.memory_limit_bytes.value_or(candidate->memory_bytes)) {
        continue;
      }
      fitting.push_back(candidate);
      fastest = std::min(fastest, candidate->seconds());
    }
    std::erase_if(fitting, [&](const Candidate* candidate) {
      return candidate->seconds() > kCoarse * fastest;
    });
    return fitting;
  }

  void predict(Candidate& result) const {
    const schedule::Strategy& strategy = *result.strategy;
    const CostOptions options{.message_overhead_seconds =
                                  request_.message_overhead_seconds};
    const auto traffic = [&](schedule::Pass pass) {
      return attention_traffic(strategy, demand_, request_.shape,
                               request_.device_table, pass,
                               request_.message_overhead_seconds);
    };
    const Traffic forward = traffic(schedule::Pass::forward);
    const Traffic backward = traffic(schedule::Pass::backward);
    result.forward = pass_cost(forward, *network_, options);
    result.backward = pass_cost(backward, *network_, options);
    result.by_formula = false;
    result.memory_bytes = 0;
    for (Rank rank = 0; rank < forward.ranks; ++rank) {
      result.memory_bytes =
          std::max(result.memory_bytes,
                   memory(forward.retained_bytes[rank],
                          forward.slot_bytes[rank], backward.slot_bytes[rank]));
    }
  }

  bool predict_by_formula(Candidate& result) const {
    const auto tokens = static_cast<double>(longest_shard(request_.layout));
    const auto form = [&](schedule::Pass pass) {
      return closed_form(
          *result.strategy, loads_,
          {.pass = pass,
           .kv_bytes = tokens * unit_bytes(schedule::Pass::forward),
           .grad_bytes = tokens * unit_bytes(schedule::Pass::backward),
           .own_seconds = tile_seconds(own_area_, pass),
           .block_seconds = tile_seconds(block_area_, pass),
           .message_overhead_seconds = request_.message_overhead_seconds,
           .least_need = least_need(request_.layout, request_.mask)});
    };
    const auto forward = form(schedule::Pass::forward);
    if (!forward) return false;
    const auto backward = form(schedule::Pass::backward);
    result.forward = forward->cost;
    result.backward = backward->cost;
    result.memory_bytes = memory(forward->retained_bytes, forward->slot_bytes,
                                 backward->slot_bytes);
    result.by_formula = true;
    return true;
  }

  // Strategies that were searched for in vain, and those of nodes where there
  // is one node.
  void add_absent(LayerPlan& plan) const {
    for (const Searched& searched : request_.searched) {
      if (searched.strategy) continue;
      plan.candidates.push_back({.name = searched.name,
                                 .verdict = Verdict::impossible,
                                 .reason = searched.why_not});
    }
    if (request_.machine.nodes() > 1) return;
    for (const char* name : {"paths", "double_ring", "hierarchical"}) {
      plan.candidates.push_back(
          {.name = name,
           .verdict = Verdict::impossible,
           .reason = fmt::format("{}: got a topology of 1 node; want at least "
                                 "2",
                                 name)});
    }
  }

  void add_modelled(LayerPlan& plan) const {
    const EvenAttention even{
        .shape = request_.shape,
        .tokens = static_cast<double>(longest_shard(request_.layout)),
        .forward_seconds = tile_seconds(mean_area(), schedule::Pass::forward),
        .backward_seconds = tile_seconds(mean_area(), schedule::Pass::backward),
        .message_overhead_seconds = request_.message_overhead_seconds};
    for (ModelledCost& cost : modelled_costs(even, loads_)) {
      Candidate candidate{.name = std::move(cost.name),
                          .verdict = Verdict::not_executable,
                          .reason = cost.why_not,
                          .forward = std::move(cost.forward),
                          .backward = std::move(cost.backward),
                          .memory_bytes = own_bytes() + cost.buffer_bytes,
                          .by_formula = true,
                          .is_bounded = false};
      if (!cost.why_not.empty()) candidate.verdict = Verdict::impossible;
      if (!cost.has_backward) candidate.reason = "forward only";
      plan.candidates.push_back(std::move(candidate));
    }
  }

  // Heads are dealt out, so every rank has as much to do whatever the layout.
  double mean_area() const {
    const schedule::Run all{0, request_.layout.tokens(), 1};
    return static_cast<double>(request_.mask.pairs(all, all)) /
           request_.machine.ranks();
  }

  const PlanRequest& request_;
  const Network* network_;  // null: a symbolic fabric
  const Loads& loads_;
  schedule::AttentionDemand demand_;
  bool balanced_;
  double heads_ = 1;
  double own_area_ = 0;      // visible pairs of a rank with its own block
  double block_area_ = 0;    // with another's, on average
  double largest_area_ = 0;  // of a rank with all
};

}  // namespace

LayerPlan softmax_candidates(const PlanRequest& request,
                             const MachineLoads& machine) {
  if (request.shape.softmax_layers() == 0) return {};
  return SoftmaxPlanner(request, machine).plan();
}

}  // namespace ringweave::planner
