#include "ringweave/planner/search/synthesis.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/planner/search/tree_growth.h"
#include "ringweave/topology/lower_bound.h"
#include "ringweave/topology/tree_packing.h"

namespace ringweave::planner {
namespace {

using topology::Route;
using topology::StepGraph;
using topology::Topology;

constexpr const char* kSynthesiseWhere = "[synthesise]";
constexpr int kMaxSteps = 64;

/// Seconds of a step's hops, given what each link carries.
class StepClock {
 public:
  explicit StepClock(const Topology& topology) : topology_(topology) {
    for (Rank from = 0; from < topology.ranks(); ++from) {
      routes_.push_back(topology.routes(from));
    }
  }

  double seconds(const schedule::Trees& trees, double shard_bytes) const {
    const std::size_t links = topology_.links().size();
    std::vector<std::vector<int>> carried(trees.steps,
                                          std::vector<int>(links, 0));
    for (const std::vector<schedule::Hop>& hops : trees.hops) {
      for (const schedule::Hop& hop : hops) {
        for (const int link : routes_[hop.from][hop.to])
          ++carried[hop.step][link];
      }
    }
    double total = 0;
    for (const std::vector<int>& strands : carried) total += busiest(strands);
    return total * shard_bytes / trees.strands;
  }

 private:
  double busiest(const std::vector<int>& strands) const {
    std::map<int, double> shared;  // seconds per byte of shared capacities
    double most = 0;
    for (std::size_t i = 0; i < strands.size(); ++i) {
      const topology::Link& link = topology_.links()[i];
      const double time = strands[i] / link.bytes_per_second;
      most = std::max(most,
                      link.shared < 0 ? time : (shared[link.shared] += time));
    }
    return most;
  }

  const Topology& topology_;
  std::vector<std::vector<std::vector<int>>> routes_;  // [from][to]: links
};

/// Tries numbers of strands and of steps, few strands first.
class Search {
 public:
  Search(const Topology& topology, const SynthesisOptions& options)
      : topology_(topology),
        options_(options),
        routes_(topology::hop_routes(topology)),
        clock_(topology),
        bound_(bound(topology)) {}

  schedule::Trees run() {
    // Shares that lose much by rounding are for odd machines only.
    for (const double most_factor : {1.12, 2.0, 16.0}) {
      try_unproven(most_factor);
      if (!good_enough()) try_proven();
      if (best_) return *std::move(best_);
    }
    throw NoSolution(fmt::format(
        "{} no trees for {}: hops between its ranks, along its routes, don't "
        "join them all",
        kSynthesiseWhere, topology_.name()));
  }

 private:
  struct Candidate {
    StepGraph graph;
    double time = 0;  ///< of its trees, over the bound
  };

  static double bound(const Topology& topology) {
    const int ranks = topology.ranks();
    const topology::DemandBytes all(ranks, std::vector<double>(ranks, 1));
    return topology::lower_bound(topology, all).seconds;
  }

  int min_steps() const {
    return options_.min_steps > 0 ? options_.min_steps
                                  : std::min(topology_.ranks() - 1, 8);
  }

  bool good_enough() const {
    return best_ && best_time_ <= options_.target_ratio;
  }

  /// Time over the bound; nullopt if no trees were found.
  std::optional<double> grow(const StepGraph& graph,
                             const GrowthOptions& growth) {
    std::optional<schedule::Trees> trees =
        grow_trees(graph, growth, 4 * graph.steps + topology_.ranks());
    if (!trees) return std::nullopt;
    const double time = clock_.seconds(*trees, 1) / bound_;
    // A strand more must be worth its messages: a thousandth of the time.
    const double cost = time * (1 + 1e-3 * graph.strands);
    if (!best_ || cost < best_cost_) {
      best_ = std::move(trees);
      best_time_ = time;
      best_cost_ = cost;
    }
    return time;
  }

  /// The least rounding loss up to `most_factor`, in steps of 2 %.
  std::optional<StepGraph> graph(int strands, int steps,
                                 double most_factor) const {
    for (double factor = 1; factor <= most_factor; factor *= 1.02) {
      if (best_ && factor >= best_time_) break;
      std::optional<StepGraph> found = topology::step_graph(
          topology_, routes_, strands, steps, bound_ * factor);
      if (found) return found;
    }
    return std::nullopt;
  }

  void try_unproven(double most_factor) {
    const std::int64_t ranks = topology_.ranks();
    std::int64_t work = 0;
    for (int strands = 1; strands <= options_.max_strands; ++strands) {
      for (int steps = min_steps(); steps <= kMaxSteps; ++steps) {
        std::optional<StepGraph> shares = graph(strands, steps, most_factor);
        if (!shares) continue;
        work += ranks * strands * steps *
                static_cast<std::int64_t>(shares->edges.size());
        if (work > kMaxWork && best_) return;
        const std::optional<double> time =
            grow(*shares, {.spare_steps = 0, .proven = false});
        if (good_enough()) return;
        if (time) candidates_.push_back({*std::move(shares), *time});
      }
    }
  }

  void try_proven() {
    if (topology_.ranks() > kMaxProvenRanks) return;
    std::stable_sort(
        candidates_.begin(), candidates_.end(),
        [](const Candidate& a, const Candidate& b) { return a.time < b.time; });
    const std::size_t count = std::min<std::size_t>(candidates_.size(), 8);
    for (std::size_t i = 0; i < count; ++i) {
      for (int spare = 0; spare < 3; ++spare) {
        grow(candidates_[i].graph, {.spare_steps = spare, .proven = true});
        if (good_enough()) return;
      }
    }
  }

  static constexpr int kMaxProvenRanks = 16;
  static constexpr std::int64_t kMaxWork = 200'000'000;  // some seconds

  const Topology& topology_;
  const SynthesisOptions& options_;
  std::vector<Route> routes_;
  StepClock clock_;
  double bound_;  // seconds per byte of a shard
  std::vector<Candidate> candidates_;
  std::optional<schedule::Trees> best_;
  double best_time_ = 0;  // over the bound
  double best_cost_ = 0;
};

}  // namespace

schedule::Trees synthesise(const Topology& topology,
                           const SynthesisOptions& options) {
  require(options.max_strands >= 1,
          "{} got at most {} strands; want at least 1", kSynthesiseWhere,
          options.max_strands);
  require(options.target_ratio >= 1,
          "{} got a target of {} times the bound; want at least 1",
          kSynthesiseWhere, options.target_ratio);
  require(options.min_steps >= 0 && options.min_steps <= kMaxSteps,
          "{} got at least {} steps; want 0 … {}", kSynthesiseWhere,
          options.min_steps, kMaxSteps);
  topology.check_connected();
  if (topology.ranks() == 1) return {.hops = {{}}};
  schedule::Trees trees = Search(topology, options).run();
  check(trees);
  return trees;
}

double seconds(const schedule::Trees& trees, const Topology& topology,
               double shard_bytes) {
  require(trees.ranks == topology.ranks(),
          "[seconds] got trees of {} ranks for a topology of {}; want as many",
          trees.ranks, topology.ranks());
  return StepClock(topology).seconds(trees, shard_bytes);
}

}  // namespace ringweave::planner
