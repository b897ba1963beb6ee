#include "ringweave/planner/search/tree_growth.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "ringweave/topology/random.h"

namespace ringweave::planner {
namespace {

using topology::RankSet;
using topology::StepGraph;

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
    grown_ = {.ranks = graph.ranks,
              .strands = graph.strands,
              .steps = 0,
              .hops = std::vector<std::vector<schedule::Hop>>(trees_.size())};
  }

  std::optional<schedule::Trees> run(int most_steps) {
    std::int64_t missing =
        std::int64_t{1} * graph_.ranks * graph_.strands * (graph_.ranks - 1);
    for (; missing > 0; ++grown_.steps) {
      const std::int64_t taken = step();
      if (taken == 0 || grown_.steps >= most_steps) return std::nullopt;
      missing -= taken;
    }
    return std::move(grown_);
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
      const Rank rank = (i + grown_.steps) % graph_.ranks;
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
      grown_.hops[take.tree].push_back({edge.from, edge.to, grown_.steps});
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
      const Rank rank = (i + grown_.steps) % graph_.ranks;
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
  schedule::Trees grown_;
};

}  // namespace

std::optional<schedule::Trees> grow_trees(const StepGraph& graph,
                                          const GrowthOptions& options,
                                          int most_steps) {
  return Growth(graph, options).run(most_steps);
}

}  // namespace ringweave::planner
