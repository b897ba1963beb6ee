#include "ringweave/discovery/classify.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/discovery/evidence.h"
#include "ringweave/topology/expand.h"

namespace ringweave::discovery {
namespace {

using Groups = std::vector<std::vector<Rank>>;

// ---- candidates ----

double median_of(const std::vector<RankPair>& pairs, auto value) {
  std::vector<double> values;
  for (const auto& [from, to] : pairs) values.push_back(value(from, to));
  return figure_of(std::move(values)).median;
}

double rate_of(const Measurements& m, const std::vector<RankPair>& pairs) {
  return median_of(pairs, [&](Rank a, Rank b) { return rate(m, a, b); });
}

double latency_of(const Measurements& m, const std::vector<RankPair>& pairs) {
  return median_of(pairs,
                   [&](Rank a, Rank b) { return m.latency[a][b].median; });
}

std::vector<topology::Fabric> flat_fabrics(const Measurements& m) {
  const std::vector<RankPair> pairs = pairs_of(m.ranks);
  topology::Fabric fabric{.kind = topology::FabricKind::mesh,
                          .ranks = m.ranks,
                          .link_bytes_per_second = rate_of(m, pairs),
                          .link_latency_seconds = latency_of(m, pairs)};
  std::vector<topology::Fabric> fabrics = {fabric};
  fabric.kind = topology::FabricKind::switch_;
  fabrics.push_back(fabric);
  return fabrics;
}

/// Nodes that are a mesh or a switch inside, with any number of NICs.
std::vector<topology::Fabric> two_level_fabrics(const Measurements& m,
                                                const Groups& groups) {
  std::vector<int> group_of(m.ranks);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const Rank rank : groups[i]) group_of[rank] = static_cast<int>(i);
  }
  std::vector<RankPair> inside, across;
  for (const auto& [from, to] : pairs_of(m.ranks)) {
    (group_of[from] == group_of[to] ? inside : across).emplace_back(from, to);
  }
  topology::Fabric fabric{.kind = topology::FabricKind::two_level,
                          .ranks = m.ranks,
                          .link_bytes_per_second = rate_of(m, inside),
                          .link_latency_seconds = latency_of(m, inside),
                          .nodes = static_cast<int>(groups.size()),
                          .nic_bytes_per_second = rate_of(m, across),
                          .nic_latency_seconds = latency_of(m, across)};
  std::vector<topology::Fabric> fabrics;
  for (const topology::FabricKind kind :
       {topology::FabricKind::mesh, topology::FabricKind::switch_}) {
    for (int nics = 1; nics <= fabric.ranks_per_node(); ++nics) {
      if (fabric.ranks_per_node() % nics != 0) continue;
      fabric.inside = kind;
      fabric.nics_per_node = nics;
      fabrics.push_back(fabric);
    }
  }
  return fabrics;
}

/// `fabric` with the ranks of `groups` in place of those it numbers node by
/// node; no longer an instance of it where the two differ.
topology::Topology::Spec placed(const topology::Fabric& fabric,
                                const Groups& groups) {
  topology::Topology::Spec spec = expanded(fabric);
  std::vector<Rank> order;
  for (const auto& members : groups) {
    order.insert(order.end(), members.begin(), members.end());
  }
  if (std::ranges::is_sorted(order)) return spec;
  spec.fabric.reset();
  for (int i = 0; i < fabric.ranks; ++i) {
    spec.vertices[order[i]].node = i / fabric.ranks_per_node();
  }
  for (topology::Link& link : spec.links) {
    if (link.from < fabric.ranks) link.from = order[link.from];
    if (link.to < fabric.ranks) link.to = order[link.to];
  }
  return spec;
}

struct Fit {
  topology::Fabric fabric;
  topology::Topology::Spec spec;
  Mismatch mismatch;
};

Fit fit(const Measurements& m, const topology::Fabric& fabric,
        const Groups& groups) {
  Fit result{.fabric = fabric, .spec = placed(fabric, groups), .mismatch = {}};
  result.mismatch = worst_mismatch(m, topology::Topology(result.spec));
  return result;
}

/// The fabric that explains the measurements best, the simplest of equals.
Fit best_fit(const Measurements& m, const Grouping& grouping) {
  const Groups& groups = grouping.groups;
  std::optional<Fit> best;
  for (const topology::Fabric& fabric :
       groups.empty() ? flat_fabrics(m) : two_level_fabrics(m, groups)) {
    constexpr double kRounding = 1 + 1e-9;
    Fit next = fit(m, fabric, groups);
    if (!best || next.mismatch.factor * kRounding < best->mismatch.factor)
      best = std::move(next);
  }
  return std::move(*best);
}

// ---- the result ----

topology::Topology::Spec matrix(const Measurements& m,
                                const Grouping& grouping) {
  topology::Topology::Spec spec;
  for (Rank rank = 0; rank < m.ranks; ++rank) {
    spec.vertices.push_back(
        {topology::VertexKind::rank, fmt::format("rank{}", rank), 0});
  }
  if (grouping.are_nodes()) {
    for (std::size_t i = 0; i < grouping.groups.size(); ++i) {
      for (const Rank rank : grouping.groups[i]) {
        spec.vertices[rank].node = static_cast<int>(i);
      }
    }
  }
  for (const auto& [from, to] : pairs_of(m.ranks)) {
    spec.links.push_back(
        {from, to, rate(m, from, to), m.latency[from][to].median, "measured"});
  }
  return spec;
}

std::string explanation(const Fit& fit) {
  return fmt::format(
      "every measurement is within {:.0f} % of a {}",
      100 * (fit.mismatch.factor - 1),
      fit.fabric.kind == topology::FabricKind::two_level
          ? fmt::format("{} of {} nodes, {} inside, {} NIC{} each",
                        name(fit.fabric.kind), fit.fabric.nodes,
                        name(fit.fabric.inside), fit.fabric.nics_per_node,
                        fit.fabric.nics_per_node == 1 ? "" : "s")
          : std::string(name(fit.fabric.kind)));
}

Classification finished(const Measurements& m, topology::Topology::Spec spec,
                        std::optional<topology::FabricKind> kind,
                        std::string reason) {
  const std::string word = kind ? name(*kind) : "matrix";
  spec.name = "measured " + word;
  spec.source = "ringweave topology probe";
  spec.measured = {{"kind", word}, {"reason", reason}};
  spec.measured.update(to_json(m));
  return {topology::Topology(std::move(spec)), kind, std::move(reason)};
}

}  // namespace

Classification classify(const Measurements& m) {
  check(m);
  const Grouping grouping = find_groups(m);
  for (const std::string& doubt : {doubt_of(m), grouping.contradiction}) {
    if (!doubt.empty()) {
      return finished(m, matrix(m, grouping), std::nullopt, doubt);
    }
  }
  Fit best = best_fit(m, grouping);
  if (best.mismatch.factor > kTolerance) {
    return finished(
        m, matrix(m, grouping), std::nullopt,
        fmt::format("neither mesh, switch nor two levels: on the nearest, a "
                    "{}, {}",
                    name(best.fabric.kind), best.mismatch.text));
  }
  std::string reason = explanation(best);
  return finished(m, std::move(best.spec), best.fabric.kind, std::move(reason));
}

}  // namespace ringweave::discovery
