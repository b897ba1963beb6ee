// A local search on rows (rows.h). Hops are first chosen by a flow, such that
// every rank sends and receives once per ring; rows are then exchanged piece by
// piece, which keeps the hops, or two hops of one row trade targets, which
// needs room on other links. Links that carry too much count as cost, so that
// the search may pass through what is not allowed.
#include "ringweave/topology/ring_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/topology/decomposition.h"
#include "ringweave/topology/hop_routes.h"
#include "ringweave/topology/max_flow.h"
#include "ringweave/topology/random.h"
#include "ringweave/topology/rows.h"

namespace ringweave::topology {
namespace {

constexpr const char* kRingSearchWhere = "[disjoint_rings]";
constexpr int kMaxRings = 128;
constexpr std::size_t kMaxRates = 64;

/// Links in units of the rate of one ring.
struct Units {
  std::vector<int> of_link;
  std::vector<int> pool;     // [link]: links of one pool share its units
  std::vector<int> of_pool;  // [pool]
};

Units in_units(const Topology& topology, double unit) {
  constexpr double kRounding = 1e-9;
  Units units;
  std::map<int, int> shared;  // Link::shared to pool
  for (const Link& link : topology.links()) {
    const double ratio = link.bytes_per_second / unit * (1 + kRounding);
    const int count = static_cast<int>(std::min(ratio, 1.0 * kMaxRings));
    const int next = static_cast<int>(units.of_pool.size());
    const int pool = link.shared < 0
                         ? next
                         : shared.emplace(link.shared, next).first->second;
    if (pool == next) units.of_pool.push_back(count);
    units.of_link.push_back(count);
    units.pool.push_back(pool);
  }
  return units;
}

/// The narrowest cut, in either direction, in units.
int narrowest_cut(const Topology& topology, const Units& units) {
  FlowNetwork network(topology.vertices());
  for (std::size_t i = 0; i < units.of_link.size(); ++i) {
    const Link& link = topology.links()[i];
    network.add_arc(link.from, link.to, units.of_link[i]);
  }
  std::int64_t least = kMaxRings;
  for (Rank rank = 1; rank < topology.ranks() && least > 0; ++rank) {
    least = std::min(least, network.max_flow(0, rank));
    least = std::min(least, network.max_flow(rank, 0));
  }
  return static_cast<int>(least);
}

/// How often each hop is used, [from][to], when every rank sends and receives
/// `rings` times, and route i at most `most`[i] times; nullopt if that can't
/// be.
std::optional<std::vector<std::vector<int>>> regular_hops(
    int ranks, const std::vector<Route>& routes, const std::vector<int>& most,
    int rings) {
  const int source = 2 * ranks;
  const int sink = source + 1;
  FlowNetwork network(sink + 1);
  for (std::size_t i = 0; i < routes.size(); ++i) {
    network.add_arc(routes[i].from, ranks + routes[i].to,
                    std::min(most[i], rings));
  }
  for (Rank rank = 0; rank < ranks; ++rank) {
    network.add_arc(source, rank, rings);
    network.add_arc(ranks + rank, sink, rings);
  }
  if (network.max_flow(source, sink) != rings * ranks) return std::nullopt;
  std::vector<std::vector<int>> hops(ranks, std::vector<int>(ranks, 0));
  for (std::size_t i = 0; i < routes.size(); ++i) {
    hops[routes[i].from][routes[i].to] =
        static_cast<int>(network.flow(static_cast<int>(i)));
  }
  return hops;
}

/// What each way could carry if it were the only one.
std::vector<int> room_alone(const std::vector<Route>& routes,
                            const Units& units) {
  std::vector<int> all;
  for (const Route& route : routes) all.push_back(room(route, units.of_link));
  return all;
}

/// Takes a perfect matching out of hops that are used equally often from and to
/// every rank; there always is one.
Row take_matching(std::vector<std::vector<int>>& hops, Random& random) {
  const int ranks = static_cast<int>(hops.size());
  std::vector<int> targets(ranks);
  std::iota(targets.begin(), targets.end(), 0);
  Row source(ranks, -1);
  std::vector<char> seen;
  const auto augment = [&](const auto& self, int from) -> bool {
    for (const int to : targets) {
      if (hops[from][to] == 0 || seen[to]) continue;
      seen[to] = 1;
      if (source[to] >= 0 && !self(self, source[to])) continue;
      source[to] = from;
      return true;
    }
    return false;
  };
  for (int from = 0; from < ranks; ++from) {
    random.shuffle(targets);
    seen.assign(ranks, 0);
    ensure(augment(augment, from), "no matching for rank {}", from);
  }
  Row row(ranks);
  for (int to = 0; to < ranks; ++to) {
    row[source[to]] = to;
    --hops[source[to]][to];
  }
  return row;
}

class RingSearch {
 public:
  RingSearch(const std::vector<std::vector<const Route*>>& routes,
             const Units& units, std::vector<Row> rows, std::uint64_t seed)
      : routes_(routes),
        units_(units),
        ranks_(static_cast<int>(routes.size())),
        random_(seed),
        rows_(std::move(rows)),
        used_(units.of_pool.size(), 0) {
    for (const Row& row : rows_) {
      extra_.push_back(cycle_count(row) - 1);
      for (Rank rank = 0; rank < ranks_; ++rank) add(rank, row[rank], 1);
    }
    for (Rank from = 0; from < ranks_; ++from) near_.push_back(near(from));
  }

  bool run(int iterations) {
    for (int i = 0; i < iterations && !done(); ++i) {
      const int row = pick_row();
      if (extra_[row] > 0) {
        exchange(row, random_.below(static_cast<int>(rows_.size())));
        trade(row);
      }
      if (excess_ > 0) swap_places(row);
    }
    return done();
  }

  /// Rows that are rings and together keep to the links: all if run() was
  /// done, else as many as are found by leaving out one after the other.
  std::vector<Ring> rings() {
    std::vector<Ring> found;
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      if (extra_[row] == 0 && !crowded(rows_[row])) {
        found.push_back(to_ring(rows_[row]));
        continue;
      }
      for (Rank rank = 0; rank < ranks_; ++rank) {
        add(rank, rows_[row][rank], -1);
      }
    }
    return found;
  }

 private:
  /// The ranks that are the fewest links away.
  std::vector<Rank> near(Rank from) const {
    std::vector<Rank> ranks;
    std::size_t least = std::numeric_limits<std::size_t>::max();
    for (Rank to = 0; to < ranks_; ++to) {
      const Route* route = routes_[from][to];
      if (!route || route->links.size() > least) continue;
      if (route->links.size() < least) ranks.clear();
      least = route->links.size();
      ranks.push_back(to);
    }
    return ranks;
  }

  bool done() const {
    return excess_ == 0 && std::all_of(extra_.begin(), extra_.end(),
                                       [](int extra) { return extra == 0; });
  }

  void add(Rank from, Rank to, int count) {
    for (const int link : routes_[from][to]->links) {
      const int pool = units_.pool[link];
      const int most = units_.of_pool[pool];
      excess_ -= std::max(0, used_[pool] - most);
      used_[pool] += count;
      excess_ += std::max(0, used_[pool] - most);
    }
  }

  bool crowded(Rank from, Rank to) const {
    const std::vector<int>& links = routes_[from][to]->links;
    return std::any_of(links.begin(), links.end(), [&](int link) {
      return used_[units_.pool[link]] > units_.of_pool[units_.pool[link]];
    });
  }
  bool crowded(const Row& row) const {
    for (Rank rank = 0; rank < ranks_; ++rank) {
      if (crowded(rank, row[rank])) return true;
    }
    return false;
  }

  int pick_row() {
    const int count = static_cast<int>(rows_.size());
    const int first = random_.below(count);
    for (int i = 0; i < count; ++i) {
      const int row = (first + i) % count;
      if (extra_[row] > 0 || (excess_ > 0 && crowded(rows_[row]))) return row;
    }
    return first;
  }

  /// Worse ones are taken now and then, to leave dead ends.
  bool accept(int rise) {
    return rise <= 0 || random_.below(50 * (1 + rise)) == 0;
  }

  void exchange(int a, int b) {
    if (a == b) return;
    std::optional<Exchange> found = best_exchange(rows_[a], rows_[b], random_);
    if (!found || !accept(found->extra() - extra_[a] - extra_[b])) return;
    rows_[a] = std::move(found->a);
    rows_[b] = std::move(found->b);
    extra_[a] = found->extra_a;
    extra_[b] = found->extra_b;
  }

  /// Two ranks of one row trade their targets.
  void trade(int row) {
    Row& to = rows_[row];
    const Rank i = random_.below(ranks_);
    const Rank j = random_.below(ranks_);
    if (i == j || !routes_[i][to[j]] || !routes_[j][to[i]]) return;
    const int before = kExcessCost * excess_ + extra_[row];
    swap_targets(to, i, j);
    const int extra = cycle_count(to) - 1;
    if (accept(kExcessCost * excess_ + extra - before)) {
      extra_[row] = extra;
    } else {
      swap_targets(to, i, j);
    }
  }

  void swap_targets(Row& row, Rank i, Rank j) {
    add(i, row[i], -1);
    add(j, row[j], -1);
    std::swap(row[i], row[j]);
    add(i, row[i], 1);
    add(j, row[j], 1);
  }

  /// Two ranks take each other's place in a row, which keeps its cycles. One of
  /// them sends over a crowded link, the other is often a near one.
  void swap_places(int index) {
    Row& row = rows_[index];
    const Rank first = random_.below(ranks_);
    Rank i = first;
    while (!crowded(i, row[i])) {
      i = (i + 1) % ranks_;
      if (i == first) return;
    }
    const std::vector<Rank>& near = near_[i];
    const Rank j = random_.below(2) == 0
                       ? near[random_.below(static_cast<int>(near.size()))]
                       : random_.below(ranks_);
    if (i == j) return;
    const auto swapped = [&](Rank rank) {
      return rank == i ? j : rank == j ? i : rank;
    };
    std::array<std::pair<Rank, Rank>, 4> changed;  // senders, their old targets
    int count = 0;
    for (Rank rank = 0; rank < ranks_; ++rank) {
      const bool touched =
          rank == i || rank == j || row[rank] == i || row[rank] == j;
      if (!touched) continue;
      if (!routes_[swapped(rank)][swapped(row[rank])]) return;
      changed[count++] = {rank, row[rank]};
    }
    const int before = excess_;
    const auto hops = std::span(changed).first(count);
    for (const auto& [from, to] : hops) add(from, to, -1);
    for (const auto& [from, to] : hops) {
      row[swapped(from)] = swapped(to);
      add(swapped(from), swapped(to), 1);
    }
    if (accept(kExcessCost * (excess_ - before))) return;
    for (const auto& [from, to] : hops) add(swapped(from), swapped(to), -1);
    for (const auto& [from, to] : hops) {
      row[from] = to;
      add(from, to, 1);
    }
  }

  static constexpr int kExcessCost = 2;  // of one unit too much, in cycles

  const std::vector<std::vector<const Route*>>& routes_;  // [from][to], or null
  const Units& units_;
  int ranks_;
  Random random_;
  std::vector<Row> rows_;
  std::vector<int> extra_;  // cycles of each row beyond the first
  std::vector<int> used_;   // [pool]
  std::vector<std::vector<Rank>> near_;
  int excess_ = 0;  // units used beyond what pools have
};

/// Rows to start from: the ranks in the order of their numbers, which passes
/// from node to node as seldom as can be, or matchings of regular hops.
std::vector<Row> first_rows(
    const std::vector<std::vector<const Route*>>& routes,
    std::vector<std::vector<int>> hops, int rings, int seed) {
  const int ranks = static_cast<int>(routes.size());
  Row ordered(ranks);
  bool exists = true;
  for (Rank rank = 0; rank < ranks; ++rank) {
    ordered[rank] = (rank + 1) % ranks;
    exists = exists && routes[rank][ordered[rank]];
  }
  if (exists && seed % 4 == 3) return std::vector<Row>(rings, ordered);
  Random random(seed);
  std::vector<Row> rows;
  for (int i = 0; i < rings; ++i) rows.push_back(take_matching(hops, random));
  return rows;
}

/// How good rings are: what they carry together, less for being many.
double value(double unit, int rings) {
  constexpr double kMany = 64;
  return unit * rings / (1 + rings / kMany);
}
double value(const RingSet& set) {
  return value(set.bytes_per_second, static_cast<int>(set.rings.size()));
}

bool complete(const Topology& topology, const std::vector<Route>& routes,
              const Units& units) {
  const std::size_t ranks = topology.ranks();
  return routes.size() == ranks * (ranks - 1) &&
         std::all_of(routes.begin(), routes.end(), [&](const Route& route) {
           return route.links.size() == 1 &&
                  units.of_link[route.links[0]] == 1 &&
                  topology.links()[route.links[0]].shared < 0;
         });
}

int most_rings(const Topology& topology, const std::vector<Route>& routes,
               const Units& units) {
  const int ranks = topology.ranks();
  int most = narrowest_cut(topology, units);
  const std::vector<int> room = room_alone(routes, units);
  while (most > 0 && !regular_hops(ranks, routes, room, most)) --most;
  // The two complete graphs whose links don't split into rings.
  const bool falls_short = (ranks == 4 || ranks == 6) && most == ranks - 1 &&
                           complete(topology, routes, units);
  return falls_short ? most - 1 : most;
}

/// What leaves or enters the narrowest rank.
int narrowest_rank(const Topology& topology, const Units& units) {
  int least = kMaxRings;
  for (Rank rank = 0; rank < topology.ranks(); ++rank) {
    for (const auto* links :
         {&topology.outgoing(rank), &topology.incoming(rank)}) {
      const int sum = std::accumulate(
          links->begin(), links->end(), 0,
          [&](int total, int link) { return total + units.of_link[link]; });
      least = std::min(least, sum);
    }
  }
  return least;
}

/// A rate for rings, and how many of it the ranks' own links allow.
struct Plan {
  double unit = 0;
  Units units;
  int at_most = 0;
};

/// Rates of links and simple fractions, the most promising first; among equals
/// the fastest.
std::vector<Plan> plans(const Topology& topology) {
  constexpr double kSame = 1e-6;
  std::vector<double> rates;
  for (const Link& link : topology.links()) {
    for (int parts = 1; parts <= 4; ++parts) {
      const double rate = link.bytes_per_second / parts;
      const bool known = std::any_of(
          rates.begin(), rates.end(),
          [&](double other) { return std::abs(rate - other) < kSame * other; });
      if (!known && rates.size() < kMaxRates) rates.push_back(rate);
    }
  }
  std::sort(rates.begin(), rates.end(), std::greater<>());
  std::vector<Plan> all;
  for (const double rate : rates) {
    Plan plan{rate, in_units(topology, rate), 0};
    plan.at_most = narrowest_rank(topology, plan.units);
    if (plan.at_most > 0) all.push_back(std::move(plan));
  }
  std::stable_sort(all.begin(), all.end(), [](const Plan& a, const Plan& b) {
    return value(a.unit, a.at_most) > value(b.unit, b.at_most);
  });
  return all;
}

RingSet search(const Topology& topology, const std::vector<Route>& routes,
               const Plan& plan) {
  const int ranks = topology.ranks();
  RingSet best{
      .rings = {}, .bytes_per_second = plan.unit, .at_most = plan.at_most};
  if (complete(topology, routes, plan.units) && plan.at_most == ranks - 1) {
    best.rings = link_disjoint_rings(ranks);
    return best;
  }
  std::vector<std::vector<const Route*>> table(
      ranks, std::vector<const Route*>(ranks, nullptr));
  for (const Route& route : routes) table[route.from][route.to] = &route;
  const std::vector<int> together = spread(routes, plan.units.of_link);
  const std::vector<int> alone = room_alone(routes, plan.units);
  // Many short searches find more than a few long ones.
  const int iterations = 300'000 / (ranks + 8);
  int seeds = ranks > 32 ? 12 : 24;
  for (int rings = plan.at_most; rings > static_cast<int>(best.rings.size());
       --rings) {
    auto hops = regular_hops(ranks, routes, together, rings);
    if (!hops) hops = regular_hops(ranks, routes, alone, rings);
    if (!hops) continue;
    for (int seed = 0; seed < seeds; ++seed) {
      RingSearch search(table, plan.units,
                        first_rows(table, *hops, rings, seed), seed);
      search.run(iterations);
      std::vector<Ring> found = search.rings();
      if (found.size() > best.rings.size()) best.rings = std::move(found);
      if (static_cast<int>(best.rings.size()) == rings) return best;
    }
    seeds = 6;
  }
  return best;
}

}  // namespace

RingSet disjoint_rings(const Topology& topology) {
  require(topology.ranks() <= kMaxSearchedRanks,
          "{} got {} ranks; want at most {}", kRingSearchWhere,
          topology.ranks(), kMaxSearchedRanks);
  topology.check_connected();
  if (topology.ranks() == 1) return {};
  const std::vector<Route> hops = hop_routes(topology);
  constexpr int kMaxSearches = 2;
  RingSet best;
  int searches = 0;
  for (Plan& plan : plans(topology)) {
    if (value(best) >= value(plan.unit, plan.at_most)) break;
    plan.at_most = most_rings(topology, hops, plan.units);
    if (value(best) >= value(plan.unit, plan.at_most)) continue;
    RingSet set = search(topology, hops, plan);
    if (value(set) > value(best)) best = std::move(set);
    if (++searches == kMaxSearches) break;
  }
  if (best.rings.empty()) {
    throw NoSolution(fmt::format("{} found no ring through all ranks of {}",
                                 kRingSearchWhere, topology.name()));
  }
  return best;
}

}  // namespace ringweave::topology
