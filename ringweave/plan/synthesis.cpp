#include "ringweave/plan/synthesis.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/topology/lower_bound.h"
#include "ringweave/topology/random.h"
#include "ringweave/topology/tree_packing.h"

namespace ringweave::plan {
namespace {

using topology::RankSet;
using topology::StepGraph;
using topology::Topology;
using topology::Way;

constexpr const char* kWhere = "[synthesise]";
constexpr int kMaxSteps = 64;

struct GrowthOptions {
  /// Steps' worth of room that each edge has beyond the graph's steps.
  int spare_steps = 0;
  /// Take no hop after which the trees could no longer be completed within the
  /// edges' room. If not, edges have any room.
  bool proven = true;
};

/// Grows the trees of all strands of all owners at once. In every step each
/// rank takes as many strands as its edges carry, the rarest first: those that
/// the fewest ranks have.
class Growth {
 public:
  Growth(const StepGraph& graph, const GrowthOptions& options)
      : graph_(graph),
        options_(options),
        edges_into_(graph.ranks),
        room_(graph.edges.size(), std::numeric_limits<int>::max()) {
    for (std::size_t e = 0; e < graph.edges.size(); ++e) {
      edges_into_[graph.edges[e].to].push_back(static_cast<int>(e));
      if (options.proven) {
        room_[e] = graph.edges[e].strands * (graph.steps + options.spare_steps);
      }
    }
    topology::Random random(1);
    for (Rank owner = 0; owner < graph.ranks; ++owner) {
      for (int strand = 0; strand < graph.strands; ++strand) {
        trees_.push_back(RankSet{1} << owner);
        ties_.push_back(random.bits());
      }
    }
    routes_ = {.ranks = graph.ranks,
               .strands = graph.strands,
               .steps = 0,
               .hops = std::vector<std::vector<Hop>>(trees_.size())};
  }

  /// nullopt if the trees block each other, or take more than `most_steps`.
  std::optional<Routes> run(int most_steps) {
    std::int64_t missing =
        std::int64_t{1} * graph_.ranks * graph_.strands * (graph_.ranks - 1);
    for (; missing > 0; ++routes_.steps) {
      const std::int64_t taken = step();
      if (taken == 0 || routes_.steps >= most_steps) return std::nullopt;
      missing -= taken;
    }
    return std::move(routes_);
  }

 private:
  struct Take {
    int tree = 0;
    int edge = 0;
  };

  std::int64_t step() {
    held_ = trees_;
    std::vector<Take> taken;
    for (int i = 0; i < graph_.ranks; ++i) {
      const Rank rank = (i + routes_.steps) % graph_.ranks;
      for (const Take& take : match(rank)) {
        apply(take);
        taken.push_back(take);
      }
    }
    if (options_.proven && !can_complete()) {
      for (const Take& take : taken) revert(take);
      taken = one_by_one();
    }
    for (const Take& take : taken) {
      const StepGraph::Edge& edge = graph_.edges[take.edge];
      routes_.hops[take.tree].push_back({edge.from, edge.to, routes_.steps});
    }
    return static_cast<std::int64_t>(taken.size());
  }

  void apply(const Take& take) {
    --room_[take.edge];
    trees_[take.tree] |= RankSet{1} << graph_.edges[take.edge].to;
  }
  void revert(const Take& take) {
    ++room_[take.edge];
    trees_[take.tree] &= ~(RankSet{1} << graph_.edges[take.edge].to);
  }

  bool can_complete(Rank rank) const {
    return topology::can_complete(graph_, room_, trees_, rank);
  }
  bool can_complete() const {
    for (Rank rank = 0; rank < graph_.ranks; ++rank) {
      if (!can_complete(rank)) return false;
    }
    return true;
  }

  /// Trees that have not reached a rank, the rarest first.
  std::vector<int> missing_at(Rank rank) const {
    std::vector<std::tuple<int, std::uint64_t, int>> order;
    for (std::size_t tree = 0; tree < trees_.size(); ++tree) {
      if (trees_[tree] >> rank & 1) continue;
      order.emplace_back(std::popcount(trees_[tree]),
                         std::rotl(ties_[tree], 7 * rank), tree);
    }
    std::sort(order.begin(), order.end());
    std::vector<int> trees;
    for (const auto& [reached, tie, tree] : order) trees.push_back(tree);
    return trees;
  }

  int slots(int edge) const {
    return std::min(graph_.edges[edge].strands, room_[edge]);
  }
  bool held(int tree, int edge) const {
    return held_[tree] >> graph_.edges[edge].from & 1;
  }

  /// A maximum matching of trees with what the edges into a rank carry in one
  /// step; no tree could be replaced by a rarer one.
  std::vector<Take> match(Rank rank) const {
    const std::vector<int>& edges = edges_into_[rank];
    std::vector<std::vector<int>> given(edges.size());
    std::vector<char> seen;
    const auto place = [&](const auto& self, int tree) -> bool {
      for (std::size_t i = 0; i < edges.size(); ++i) {
        if (seen[i] || !held(tree, edges[i])) continue;
        seen[i] = 1;
        if (static_cast<int>(given[i].size()) < slots(edges[i])) {
          given[i].push_back(tree);
          return true;
        }
        for (int& other : given[i]) {
          if (!self(self, other)) continue;
          other = tree;
          return true;
        }
      }
      return false;
    };
    int left = 0;
    for (const int edge : edges) left += slots(edge);
    for (const int tree : missing_at(rank)) {
      if (left == 0) break;
      seen.assign(edges.size(), 0);
      if (place(place, tree)) --left;
    }
    std::vector<Take> takes;
    for (std::size_t i = 0; i < edges.size(); ++i) {
      for (const int tree : given[i]) takes.push_back({tree, edges[i]});
    }
    return takes;
  }

  /// A step in which every hop is checked on its own.
  std::vector<Take> one_by_one() {
    std::vector<Take> taken;
    for (int i = 0; i < graph_.ranks; ++i) {
      const Rank rank = (i + routes_.steps) % graph_.ranks;
      std::map<int, int> used;  // by edge
      for (const int tree : missing_at(rank)) {
        for (const int edge : edges_into_[rank]) {
          if (!held(tree, edge) || room_[edge] == 0 ||
              used[edge] == graph_.edges[edge].strands) {
            continue;
          }
          const Take take = {tree, edge};
          apply(take);
          if (can_complete(rank)) {
            taken.push_back(take);
            ++used[edge];
            break;
          }
          revert(take);
        }
      }
    }
    return taken;
  }

  const StepGraph& graph_;
  GrowthOptions options_;
  std::vector<std::vector<int>> edges_into_;
  std::vector<int> room_;            // strands in all steps, [edge]
  std::vector<RankSet> trees_;       // [owner · strands + strand]
  std::vector<RankSet> held_;        // trees_ at the start of the step
  std::vector<std::uint64_t> ties_;  // order among equally rare trees
  Routes routes_;
};

/// Seconds of a step's hops, given what each link carries.
class StepClock {
 public:
  explicit StepClock(const Topology& topology) : topology_(topology) {
    for (Rank from = 0; from < topology.ranks(); ++from) {
      ways_.push_back(topology.routes(from));
    }
  }

  double seconds(const Routes& routes, double shard_bytes) const {
    const std::size_t links = topology_.links().size();
    std::vector<std::vector<int>> carried(routes.steps,
                                          std::vector<int>(links, 0));
    for (const std::vector<Hop>& hops : routes.hops) {
      for (const Hop& hop : hops) {
        for (const int link : ways_[hop.from][hop.to])
          ++carried[hop.step][link];
      }
    }
    double total = 0;
    for (const std::vector<int>& strands : carried) total += busiest(strands);
    return total * shard_bytes / routes.strands;
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
  std::vector<std::vector<std::vector<int>>> ways_;  // [from][to]: links
};

/// Tries numbers of strands and of steps, few strands first.
class Search {
 public:
  Search(const Topology& topology, const SynthesisOptions& options)
      : topology_(topology),
        options_(options),
        ways_(topology::ways(topology)),
        clock_(topology),
        bound_(bound(topology)) {}

  Routes run() {
    // Shares that lose much by rounding are for odd machines only.
    for (const double most_factor : {1.12, 2.0, 16.0}) {
      try_unproven(most_factor);
      if (!good_enough()) try_proven();
      if (best_) return *std::move(best_);
    }
    throw NoSolution(fmt::format(
        "{} no trees for {}: hops between its ranks, along its routes, don't "
        "join them all",
        kWhere, topology_.name()));
  }

 private:
  struct Candidate {
    StepGraph graph;
    double time = 0;  ///< of its routes, over the bound
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

  bool good_enough() const { return best_ && best_time_ <= options_.good; }

  /// Time over the bound; nullopt if no routes were found.
  std::optional<double> grow(const StepGraph& graph, GrowthOptions growth) {
    std::optional<Routes> routes =
        Growth(graph, growth).run(4 * graph.steps + topology_.ranks());
    if (!routes) return std::nullopt;
    const double time = clock_.seconds(*routes, 1) / bound_;
    // More strands must be worth it.
    constexpr double kGain = 0.995;
    if (!best_ || time < kGain * best_time_) {
      best_ = std::move(routes);
      best_time_ = time;
    }
    return time;
  }

  /// The least rounding loss up to `most_factor`, in steps of 2 %.
  std::optional<StepGraph> graph(int strands, int steps,
                                 double most_factor) const {
    for (double factor = 1; factor <= most_factor; factor *= 1.02) {
      if (best_ && factor >= best_time_) break;
      std::optional<StepGraph> found = topology::step_graph(
          topology_, ways_, strands, steps, bound_ * factor);
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
  std::vector<Way> ways_;
  StepClock clock_;
  double bound_;  // seconds per byte of a shard
  std::vector<Candidate> candidates_;
  std::optional<Routes> best_;
  double best_time_ = 0;
};

}  // namespace

Routes synthesise(const Topology& topology, const SynthesisOptions& options) {
  require(options.max_strands >= 1,
          "{} got at most {} strands; want at least 1", kWhere,
          options.max_strands);
  require(options.good >= 1,
          "{} got {} times the bound as good; want at least 1", kWhere,
          options.good);
  require(options.min_steps >= 0 && options.min_steps <= kMaxSteps,
          "{} got at least {} steps; want 0 … {}", kWhere, options.min_steps,
          kMaxSteps);
  topology.check_connected();
  if (topology.ranks() == 1) return {.hops = {{}}};
  Routes routes = Search(topology, options).run();
  check(routes);
  return routes;
}

double seconds(const Routes& routes, const Topology& topology,
               double shard_bytes) {
  require(routes.ranks == topology.ranks(),
          "[seconds] got routes of {} ranks for a topology of {}; want as many",
          routes.ranks, topology.ranks());
  return StepClock(topology).seconds(routes, shard_bytes);
}

}  // namespace ringweave::plan
