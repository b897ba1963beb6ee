#include "ringweave/plan/planner.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/plan/attention_work.h"
#include "ringweave/plan/closed_form.h"
#include "ringweave/plan/demand_bytes.h"
#include "ringweave/plan/linear_cost.h"
#include "ringweave/plan/modelled.h"
#include "ringweave/topology/lower_bound.h"

namespace ringweave::plan {
namespace {

/// Transfers of a pass above which a formula is used, if there is one, and
/// above which nothing else is tried.
constexpr double kManyTransfers = 1.5e4;
constexpr double kTooManyTransfers = 4e6;
/// Ranks up to which lower bounds are found by maximum flows.
constexpr int kMaxFlowRanks = 64;
/// Times that differ by less are the same.
constexpr double kTie = 1e-9;

bool is_plain(const Mask& mask) {
  return mask.window() == Window{} && mask.document_offsets().empty();
}

/// Whether every rank has the same work.
bool is_balanced(const PlanRequest& request) {
  if (!is_plain(request.mask)) return false;
  return !request.mask.is_causal() ||
         request.layout.kind() == Layout::Kind::zigzag ||
         request.layout.kind() == Layout::Kind::striped;
}

std::int64_t longest_shard(const Layout& layout) {
  std::int64_t longest = 0;
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    longest = std::max(longest, layout.shard_tokens(rank));
  }
  return longest;
}

std::vector<Strategy> softmax_strategies(const PlanRequest& request) {
  const int n = request.machine.ranks();
  const int nodes = request.machine.nodes();
  std::vector<Strategy> strategies = {
      {.kind = StrategyKind::multi_ring},
      {.kind = StrategyKind::time_varying_multi_ring},
      {.kind = StrategyKind::ring},
      {.kind = StrategyKind::ring, .reverse = true}};
  for (const int strands : {1, 2, 4, 8}) {
    if (strands < std::max(2, n - 1)) {
      strategies.push_back({.kind = StrategyKind::direct, .strands = strands});
    }
  }
  strategies.push_back({.kind = StrategyKind::direct});
  strategies.push_back({.kind = StrategyKind::all_gather});
  if (nodes > 1) {
    strategies.push_back({.kind = StrategyKind::paths, .nodes = nodes});
    strategies.push_back({.kind = StrategyKind::double_ring, .nodes = nodes});
    for (const auto inner : {StrategyKind::direct, StrategyKind::multi_ring}) {
      for (const int slices : {1, 4, 8}) {
        strategies.push_back({.kind = StrategyKind::hierarchical,
                              .nodes = nodes,
                              .slices = slices,
                              .inner = inner});
      }
    }
  }
  strategies.insert(strategies.end(), request.extra.begin(),
                    request.extra.end());
  return strategies;
}

/// Whether the recurrence is worth its time: formulas are coarser for these.
bool has_slices(const Strategy& strategy) {
  return strategy.kind == StrategyKind::hierarchical;
}

double transfers_of(const Strategy& strategy, int ranks) {
  const double pairs = static_cast<double>(ranks) * (ranks - 1);
  return pairs * (strategy.kind == StrategyKind::hierarchical
                      ? std::max(1, strategy.slices)
                      : strand_count(strategy, ranks));
}

class Planner {
 public:
  explicit Planner(const PlanRequest& request)
      : request_(request),
        demand_(request.layout, request.layout, request.mask),
        balanced_(is_balanced(request)) {
    if (request.machine.topology) {
      network_.emplace(*request.machine.topology);
      loads_.emplace(*network_);
    } else {
      loads_.emplace(*request.machine.fabric);
    }
    heads_ = static_cast<double>(request.shape.heads * request.shape.batch);
    find_areas();
  }

  LayerPlan softmax() const {
    LayerPlan plan{.layers = request_.shape.softmax_layers()};
    if (plan.layers == 0) return plan;
    plan.exchange_bound = exchange_bound(Pass::forward);
    plan.forward_bound = bound(Pass::forward, plan.exchange_bound);
    plan.backward_bound = bound(Pass::backward, exchange_bound(Pass::backward));
    plan.own_bytes = own_bytes();
    for (const Strategy& strategy : softmax_strategies(request_)) {
      plan.candidates.push_back(candidate(strategy));
    }
    if (request_.machine.ranks() > 1) add_absent(plan);
    add_modelled(plan);
    return plan;
  }

  LayerPlan linear() const {
    LayerPlan plan{.layers = request_.shape.linear_layers()};
    if (plan.layers == 0) return plan;
    const LinearCase linear{
        .shape = request_.shape,
        .tokens = longest_shard(request_.layout),
        .segments = request_.layout.kind() == Layout::Kind::zigzag ? 2 : 1,
        .message_overhead_seconds = request_.message_overhead_seconds};
    const bool alone = request_.machine.ranks() == 1;
    const double in = alone ? 1 : loads_->best_in_rate();
    const auto pass_bound = [&](bool backward) {
      return linear_bound(linear, request_.device,
                          alone ? std::numeric_limits<double>::infinity() : in,
                          backward);
    };
    plan.forward_bound = pass_bound(false);
    plan.backward_bound = pass_bound(true);
    plan.exchange_bound =
        alone ? 0
              : static_cast<double>(request_.shape.state_numbers() *
                                    request_.shape.sum_bytes()) /
                    in;
    plan.own_bytes = linear.rank_bytes();
    std::vector<Strategy> strategies = {{.kind = StrategyKind::all_gather},
                                        {.kind = StrategyKind::ring},
                                        {.kind = StrategyKind::multi_ring},
                                        {.kind = StrategyKind::direct}};
    if (request_.machine.nodes() > 1) {
      strategies.push_back({.kind = StrategyKind::hierarchical,
                            .nodes = request_.machine.nodes()});
    }
    for (TransportCost& cost :
         transport_costs(linear, strategies, *loads_, request_.device)) {
      Candidate candidate{.name = std::move(cost.name),
                          .verdict = cost.executable ? Verdict::slower
                                                     : Verdict::not_executable,
                          .reason = cost.why_not,
                          .forward = std::move(cost.forward),
                          .backward = std::move(cost.backward),
                          .memory_bytes = plan.own_bytes + cost.buffer_bytes,
                          .by_formula = true};
      if (!cost.why_not.empty()) candidate.verdict = Verdict::impossible;
      plan.candidates.push_back(std::move(candidate));
    }
    return plan;
  }

 private:
  // Of the rank with the most to compute; and what the formulas want.
  void find_areas() {
    const int n = demand_.ranks();
    if (balanced_) {
      // All ranks are alike; the middle one stands for them.
      const Rank rank = n / 2;
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

  double unit_bytes(Pass pass) const {
    return static_cast<double>(pass == Pass::forward
                                   ? request_.shape.kv_token_bytes()
                                   : request_.shape.grad_token_bytes());
  }

  double tile_seconds(double area, Pass pass) const {
    return request_.device.tile_seconds(
        area * heads_, static_cast<int>(request_.shape.head_dim),
        pass == Pass::backward);
  }

  /// Of the payload that the pass can't do without; 0 where none is known.
  double exchange_bound(Pass pass) const {
    const Machine& machine = request_.machine;
    if (machine.ranks() == 1) return 0;
    if (machine.fabric && is_plain(request_.mask)) {
      // Some rank needs all keys, under a causal mask too; all ranks are alike.
      // Shards differ by a token at most: the shortest ones bound.
      const std::int64_t tokens = request_.layout.tokens() / machine.ranks();
      if (const auto seconds = topology::closed_form_bound(
              *machine.fabric,
              static_cast<double>(tokens) * unit_bytes(pass))) {
        return *seconds;
      }
    }
    if (!machine.topology || machine.ranks() > kMaxFlowRanks) return 0;
    const auto bytes = demand_bytes(demand_, unit_bytes(pass));
    return pass == Pass::forward
               ? topology::lower_bound(*machine.topology, bytes).seconds
               : topology::lower_bound(reversed_topology(*machine.topology),
                                       bytes)
                     .seconds;
  }

  double bound(Pass pass, double exchange) const {
    return std::max(exchange, request_.device.least_seconds(
                                  largest_area_ * heads_,
                                  static_cast<int>(request_.shape.head_dim),
                                  pass == Pass::backward));
  }

  double own_bytes() const {
    return static_cast<double>(longest_shard(request_.layout)) *
           (unit_bytes(Pass::forward) + unit_bytes(Pass::backward));
  }

  // Retained by every layer but the one at work, whose slots hold its own.
  double memory(double retained, double forward_slots,
                double backward_slots) const {
    const auto others =
        static_cast<double>(request_.shape.softmax_layers() - 1);
    return own_bytes() + others * retained +
           std::max(forward_slots, backward_slots);
  }

  Candidate candidate(const Strategy& strategy) const {
    Candidate result{.name = plan::name(strategy), .strategy = strategy};
    const int n = request_.machine.ranks();
    if (auto reason = why_not(strategy, n)) {
      result.verdict = Verdict::impossible;
      result.reason = std::move(*reason);
      return result;
    }
    const double transfers = transfers_of(strategy, n);
    const bool many = transfers > kManyTransfers && !has_slices(strategy);
    if (balanced_ && (!network_ || many)) {
      if (predict_by_formula(strategy, result)) return result;
    }
    if (!network_ || transfers > kTooManyTransfers) {
      result.verdict = Verdict::impossible;
      result.reason = fmt::format(
          "{:.2g} transfers are too many to predict one by one, and no formula "
          "holds for this layout, mask and strategy",
          transfers);
      return result;
    }
    predict(strategy, result);
    return result;
  }

  void predict(const Strategy& strategy, Candidate& result) const {
    const CostOptions options{.message_overhead_seconds =
                                  request_.message_overhead_seconds};
    const auto traffic = [&](Pass pass) {
      return attention_traffic(strategy, demand_, request_.shape,
                               request_.device, pass,
                               request_.message_overhead_seconds);
    };
    const Traffic forward = traffic(Pass::forward);
    const Traffic backward = traffic(Pass::backward);
    result.forward = pass_cost(forward, *network_, options);
    result.backward = pass_cost(backward, *network_, options);
    for (Rank rank = 0; rank < forward.ranks; ++rank) {
      result.memory_bytes =
          std::max(result.memory_bytes,
                   memory(forward.retained_bytes[rank],
                          forward.slot_bytes[rank], backward.slot_bytes[rank]));
    }
  }

  bool predict_by_formula(const Strategy& strategy, Candidate& result) const {
    const auto tokens = static_cast<double>(longest_shard(request_.layout));
    const auto form = [&](Pass pass) {
      return closed_form(
          strategy, *loads_,
          {.pass = pass,
           .kv_bytes = tokens * unit_bytes(Pass::forward),
           .grad_bytes = tokens * unit_bytes(Pass::backward),
           .own_seconds = tile_seconds(own_area_, pass),
           .block_seconds = tile_seconds(block_area_, pass),
           .message_overhead_seconds = request_.message_overhead_seconds});
    };
    const auto forward = form(Pass::forward);
    if (!forward) return false;
    const auto backward = form(Pass::backward);
    result.forward = forward->cost;
    result.backward = backward->cost;
    result.memory_bytes = memory(forward->retained_bytes, forward->slot_bytes,
                                 backward->slot_bytes);
    result.by_formula = true;
    return true;
  }

  // Strategies of nodes, where there is one node.
  void add_absent(LayerPlan& plan) const {
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
        .forward_seconds = tile_seconds(mean_area(), Pass::forward),
        .backward_seconds = tile_seconds(mean_area(), Pass::backward),
        .message_overhead_seconds = request_.message_overhead_seconds};
    for (ModelledCost& cost : modelled_costs(even, *loads_)) {
      Candidate candidate{.name = std::move(cost.name),
                          .verdict = Verdict::not_executable,
                          .reason = cost.why_not,
                          .forward = std::move(cost.forward),
                          .backward = std::move(cost.backward),
                          .memory_bytes = own_bytes() + cost.buffer_bytes,
                          .by_formula = true};
      if (!cost.why_not.empty()) candidate.verdict = Verdict::impossible;
      if (!cost.has_backward) candidate.reason = "forward only";
      plan.candidates.push_back(std::move(candidate));
    }
  }

  // Heads are dealt out, so every rank has as much to do whatever the layout.
  double mean_area() const {
    const Run all{0, request_.layout.tokens(), 1};
    return static_cast<double>(
               request_.mask.area(all, all, request_.layout.tokens())) /
           request_.machine.ranks();
  }

  const PlanRequest& request_;
  AttentionDemand demand_;
  bool balanced_;
  std::optional<Network> network_;
  std::optional<Loads> loads_;
  double heads_ = 1;
  double own_area_ = 0;      // visible pairs of a rank with its own block
  double block_area_ = 0;    // with another's, on average
  double largest_area_ = 0;  // of a rank with all
};

std::string bytes_text(double bytes) {
  return bytes >= 1e9 ? fmt::format("{:.3g} GB", bytes / 1e9)
                      : fmt::format("{:.3g} MB", bytes / 1e6);
}

// Fastest first, then what has no backward, then the impossible.
void sort(LayerPlan& plan) {
  const auto group = [](const Candidate& candidate) {
    if (candidate.verdict == Verdict::impossible) return 2;
    return candidate.backward.seconds > 0 ? 0 : 1;
  };
  std::ranges::stable_sort(plan.candidates,
                           [&](const Candidate& a, const Candidate& b) {
                             if (group(a) != group(b))
                               return group(a) < group(b);
                             if (group(a) == 2) return false;
                             if (std::abs(a.seconds() - b.seconds()) >
                                 kTie * std::max(a.seconds(), b.seconds())) {
                               return a.seconds() < b.seconds();
                             }
                             return a.memory_bytes < b.memory_bytes;
                           });
}

void choose(LayerPlan& plan, std::optional<double> limit) {
  if (plan.layers == 0) return;
  sort(plan);
  for (int i = 0; i < static_cast<int>(plan.candidates.size()); ++i) {
    Candidate& candidate = plan.candidates[i];
    if (candidate.verdict != Verdict::slower) continue;
    if (limit && candidate.memory_bytes > *limit) {
      candidate.verdict = Verdict::too_large;
      candidate.reason =
          fmt::format("needs {}, limit {}", bytes_text(candidate.memory_bytes),
                      bytes_text(*limit));
    } else if (plan.chosen < 0) {
      plan.chosen = i;
      candidate.verdict = Verdict::chosen;
    }
  }
  if (plan.chosen < 0) return;
  const Candidate& best = plan.candidates[plan.chosen];
  for (Candidate& candidate : plan.candidates) {
    if (candidate.verdict == Verdict::impossible ||
        candidate.verdict == Verdict::chosen ||
        candidate.verdict == Verdict::too_large) {
      continue;
    }
    const bool whole = candidate.backward.seconds > 0;
    std::string text =
        fmt::format("{:.2f} times the chosen one{}",
                    whole ? candidate.seconds() / best.seconds()
                          : candidate.forward.seconds / best.forward.seconds,
                    whole ? "" : "'s forward");
    if (candidate.verdict == Verdict::not_executable) {
      text = fmt::format("not executable yet{}; {}",
                         whole ? "" : ", forward only", text);
    }
    candidate.reason = std::move(text);
  }
}

void check(const PlanRequest& request) {
  plan::check(request.shape, "model");
  const int n = request.machine.ranks();
  require(request.layout.ranks() == n,
          "[plan] got a layout of {} ranks for a topology of {}; want the same",
          request.layout.ranks(), n);
  require(request.shape.linear_layers() == 0 ||
              request.layout.kind() != Layout::Kind::striped,
          "[plan] got the layout \"striped\" with linear layers (pattern "
          "\"{}\"); want \"contiguous\" or \"zigzag\", whose shards are "
          "contiguous runs",
          request.shape.pattern);
  require(
      request.machine.topology || is_balanced(request),
      "[plan] got {} ranks, a causal mask that gives them unequal work, and "
      "more than {} ranks; want the layout zigzag or striped",
      n, kMaxExpandedRanks);
  require(!request.memory_limit_bytes || *request.memory_limit_bytes > 0,
          "[plan] got a memory limit of {} bytes; want more than 0",
          request.memory_limit_bytes.value_or(0));
}

}  // namespace

const char* name(Verdict verdict) {
  switch (verdict) {
    case Verdict::chosen:
      return "chosen";
    case Verdict::slower:
      return "slower";
    case Verdict::too_large:
      return "too large";
    case Verdict::not_executable:
      return "not executable";
    case Verdict::impossible:
      return "impossible";
  }
  throw InternalError("bug in ringweave: a verdict without a name");
}

Planned make_plan(const PlanRequest& request) {
  check(request);
  const Planner planner(request);
  Planned planned{.softmax = planner.softmax(), .linear = planner.linear()};
  for (LayerPlan* plan : {&planned.softmax, &planned.linear}) {
    choose(*plan, request.memory_limit_bytes);
    if (plan->layers == 0) continue;
    if (plan->chosen < 0) {
      double least = std::numeric_limits<double>::infinity();
      for (const Candidate& candidate : plan->candidates) {
        if (candidate.verdict == Verdict::too_large) {
          least = std::min(least, candidate.memory_bytes);
        }
      }
      throw NoSolution(fmt::format(
          "[plan] got a memory limit of {}; want at least {}, which the "
          "smallest {} needs",
          bytes_text(request.memory_limit_bytes.value_or(0)), bytes_text(least),
          plan == &planned.softmax ? "strategy" : "transport"));
    }
    planned.step_seconds += static_cast<double>(plan->layers) *
                            plan->candidates[plan->chosen].seconds();
  }
  return planned;
}

}  // namespace ringweave::plan
