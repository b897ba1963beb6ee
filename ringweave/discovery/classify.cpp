#include "ringweave/discovery/classify.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/topology/expand.h"

namespace ringweave::discovery {
namespace {

/// A round trip of a small message takes at most this share of a large one's
/// time, or the rate is not to be seen.
constexpr double kMaxTripShare = 0.25;

using Groups = std::vector<std::vector<Rank>>;

std::vector<RankPair> pairs_of(int ranks) {
  std::vector<RankPair> pairs;
  for (Rank from = 0; from < ranks; ++from) {
    for (Rank to = 0; to < ranks; ++to) {
      if (from != to) pairs.emplace_back(from, to);
    }
  }
  return pairs;
}

void check(const Measurements& m) {
  require(m.ranks >= 2, "[classify] got {} ranks; want at least 2", m.ranks);
  require(!m.sizes.empty(), "[classify] got no sizes; want at least 1");
  const auto positive = [](const Figure& figure, const std::string& what) {
    require(std::isfinite(figure.high) && figure.low > 0 &&
                figure.low <= figure.median && figure.median <= figure.high,
            "[classify] got {} to {} seconds for {}; want positive times",
            figure.low, figure.high, what);
  };
  for (const auto& [from, to] : pairs_of(m.ranks)) {
    positive(m.latency[from][to],
             fmt::format("the latency of {} to {}", from, to));
  }
  for (const auto& timed : m.patterns) {
    for (const Figure& figure : timed.seconds) {
      positive(figure, timed.pattern.name);
    }
  }
}

// ---- what forbids any guess ----

std::string noisy(const Measurements& m) {
  if (m.rounds < kLeastRounds) {
    return fmt::format("{} rounds tell no spread; want at least {}", m.rounds,
                       kLeastRounds);
  }
  const Measurements::Timed* worst = nullptr;
  double spread = kMaxSpread;
  for (const auto& timed : m.patterns) {
    const Figure& figure = timed.seconds.back();
    if (figure.high / figure.low > spread) {
      spread = figure.high / figure.low;
      worst = &timed;
    }
  }
  if (!worst) return {};
  return fmt::format(
      "repeats contradict each other: the quartiles of \"{}\" are {:.3g} and "
      "{:.3g} s",
      worst->pattern.name, worst->seconds.back().low,
      worst->seconds.back().high);
}

std::string latency_bound(const Measurements& m) {
  for (const auto& [from, to] : pairs_of(m.ranks)) {
    const double trip = 2 * m.latency[from][to].median;
    const double whole = m.alone(from, to).median;
    if (trip > kMaxTripShare * whole) {
      return fmt::format(
          "the largest message of {} bytes from {} to {} takes {:.3g} s, of "
          "which latency is {:.3g} s: larger messages would show the rate",
          m.sizes.back(), from, to, whole, trip);
    }
  }
  return {};
}

std::string faster_together(const Measurements& m) {
  for (const auto& timed : m.patterns) {
    for (const auto& [from, to] : timed.pattern.pairs) {
      const double alone = m.alone(from, to).low;
      const double together = timed.seconds.back().high;
      if (together * kTolerance < alone) {
        return fmt::format(
            "figures contradict each other: {} to {} takes {:.3g} s alone and "
            "{:.3g} s in \"{}\"",
            from, to, alone, together, timed.pattern.name);
      }
    }
  }
  return {};
}

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

/// How long patterns take on a topology: the busiest link, and a round trip.
class Prediction {
 public:
  Prediction(const topology::Topology& topology, std::int64_t bytes)
      : topology_(topology), bytes_(static_cast<double>(bytes)) {
    for (Rank from = 0; from < topology.ranks(); ++from) {
      routes_.push_back(topology.routes(from));
    }
  }

  double seconds(const Pattern& pattern) const {
    std::map<int, double> load;  // link → seconds
    double busiest = 0, trip = 0;
    for (const auto& [from, to] : pattern.pairs) {
      double latency = 0;
      for (const int index : routes_[from][to]) {
        const topology::Link& link = topology_.links()[index];
        busiest =
            std::max(busiest, load[index] += bytes_ / link.bytes_per_second);
        latency += link.latency_seconds;
      }
      trip = std::max(trip, 2 * latency);
    }
    return busiest + trip;
  }

 private:
  const topology::Topology& topology_;
  double bytes_;
  std::vector<std::vector<std::vector<int>>> routes_;
};

struct Fit {
  topology::Fabric fabric;
  topology::Topology::Spec spec;
  double error = 1;   ///< factor by which the worst pattern is off
  std::string worst;  ///< what that is, in words
};

Fit fit(const Measurements& m, const topology::Fabric& fabric,
        const Groups& groups) {
  Fit result{.fabric = fabric, .spec = placed(fabric, groups), .worst = {}};
  const topology::Topology topology(result.spec);
  const Prediction prediction(topology, m.sizes.back());
  for (const auto& timed : m.patterns) {
    const double expected = prediction.seconds(timed.pattern);
    const Figure& figure = timed.seconds.back();
    const double ratio =
        std::clamp(expected, figure.low, figure.high) / expected;
    const double error = std::max(ratio, 1 / ratio);
    if (error > result.error) {
      result.error = error;
      result.worst = fmt::format("\"{}\" took {:.3g} s instead of {:.3g} s",
                                 timed.pattern.name, figure.median, expected);
    }
  }
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
    if (!best || next.error * kRounding < best->error) best = std::move(next);
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
      "every measurement is within {:.0f} % of a {}", 100 * (fit.error - 1),
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
  for (const std::string& doubt :
       {noisy(m), latency_bound(m), faster_together(m),
        grouping.contradiction}) {
    if (!doubt.empty()) {
      return finished(m, matrix(m, grouping), std::nullopt, doubt);
    }
  }
  Fit best = best_fit(m, grouping);
  if (best.error > kTolerance) {
    return finished(
        m, matrix(m, grouping), std::nullopt,
        fmt::format("neither mesh, switch nor two levels: on the nearest, a "
                    "{}, {}",
                    name(best.fabric.kind), best.worst));
  }
  std::string reason = explanation(best);
  return finished(m, std::move(best.spec), best.fabric.kind, std::move(reason));
}

}  // namespace ringweave::discovery
