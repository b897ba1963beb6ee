#include "ringweave/discovery/measurements.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>

#include "ringweave/base/error.h"

namespace ringweave::discovery {
namespace {

/// Two levels are told apart by rate or latency only if they differ by these.
constexpr double kRateGap = 1.5;
constexpr double kLatencyGap = 2;

using Matrix = std::vector<std::vector<double>>;  ///< symmetric; [rank][rank]

double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above],
                   place - static_cast<double>(below));
}

/// The value in the middle of the widest gap between neighbouring values;
/// nullopt if they differ by less than `least` times.
std::optional<double> threshold(const Matrix& near, double least) {
  std::vector<double> values;
  for (std::size_t a = 0; a < near.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) values.push_back(near[a][b]);
  }
  std::ranges::sort(values);
  double widest = 1, middle = 0;
  for (std::size_t i = 1; i < values.size(); ++i) {
    const double gap = values[i] / values[i - 1];
    if (gap > widest) {
      widest = gap;
      middle = std::sqrt(values[i] * values[i - 1]);
    }
  }
  if (widest < least) return std::nullopt;
  return middle;
}

Grouping group(const Matrix& near, double bound) {
  const int ranks = static_cast<int>(near.size());
  Grouping result;
  std::vector<bool> placed(ranks, false);
  for (Rank first = 0; first < ranks; ++first) {
    if (placed[first]) continue;
    std::vector<Rank> members;
    for (Rank rank = first; rank < ranks; ++rank) {
      if (rank == first || near[first][rank] >= bound) members.push_back(rank);
    }
    for (const Rank a : members) {
      placed[a] = true;
      for (Rank b = 0; b < ranks; ++b) {
        const bool member = std::ranges::find(members, b) != members.end();
        if (b == a || member == (near[a][b] >= bound)) continue;
        const auto [left, middle, right] =
            member ? std::tuple(a, first, b) : std::tuple(first, a, b);
        result.contradiction = fmt::format(
            "some pairs are much nearer than others, but form no groups: "
            "ranks {} and {} are near rank {}, but not each other",
            left, right, middle);
        return result;
      }
    }
    result.groups.push_back(std::move(members));
  }
  std::vector<std::size_t> sizes;
  for (const auto& members : result.groups) sizes.push_back(members.size());
  const auto [least, most] = std::ranges::minmax(sizes);
  if (least != most) {
    result.contradiction = fmt::format(
        "groups of {} to {} ranks are near each other; nodes have the same "
        "number each",
        least, most);
  }
  return result;
}

Json to_json(const Figure& figure) {
  return {
      {"median", figure.median}, {"low", figure.low}, {"high", figure.high}};
}

}  // namespace

Figure figure_of(std::vector<double> repeats) {
  ensure(!repeats.empty(), "a figure of no repeats");
  std::ranges::sort(repeats);
  return {quantile(repeats, 0.5), quantile(repeats, 0.25),
          quantile(repeats, 0.75)};
}

std::vector<Pattern> flat_patterns(int ranks) {
  std::vector<Pattern> patterns;
  Pattern all{"all pairs", "all pairs", {}};
  Pattern ring{"ring", "ring", {}};
  std::vector<Pattern> fans;
  for (Rank rank = 0; rank < ranks; ++rank) {
    Pattern out{"one to all", fmt::format("{} to all", rank), {}};
    Pattern in{"all to one", fmt::format("all to {}", rank), {}};
    // In this order no two ranks begin with the same peer.
    for (int hops = 1; hops < ranks; ++hops) {
      const Rank peer = (rank + hops) % ranks;
      patterns.push_back(
          {"alone", fmt::format("{} to {}", rank, peer), {{rank, peer}}});
      out.pairs.emplace_back(rank, peer);
      in.pairs.emplace_back(peer, rank);
      all.pairs.emplace_back(rank, peer);
    }
    ring.pairs.emplace_back(rank, (rank + 1) % ranks);
    fans.push_back(std::move(out));
    fans.push_back(std::move(in));
  }
  std::ranges::move(fans, std::back_inserter(patterns));
  patterns.push_back(std::move(ring));
  patterns.push_back(std::move(all));
  return patterns;
}

std::vector<Pattern> group_patterns(
    const std::vector<std::vector<Rank>>& groups) {
  Pattern inside{"inside groups", "inside groups", {}};
  for (const std::vector<Rank>& members : groups) {
    const std::size_t count = members.size();
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t hops = 1; hops < count; ++hops) {
        inside.pairs.emplace_back(members[i], members[(i + hops) % count]);
      }
    }
  }
  std::vector<Pattern> patterns = {std::move(inside)};
  for (std::size_t a = 0; a < groups.size(); ++a) {
    for (std::size_t b = 0; b < groups.size(); ++b) {
      if (a == b) continue;
      Pattern across{
          "group to group", fmt::format("group {} to group {}", a, b), {}};
      for (std::size_t i = 0; i < groups[a].size(); ++i) {
        across.pairs.emplace_back(groups[a][i], groups[b][i]);
      }
      patterns.push_back(std::move(across));
    }
  }
  return patterns;
}

const Figure& Measurements::alone(Rank from, Rank to) const {
  // In the order of flat_patterns().
  const int place = from * (ranks - 1) + (to - from - 1 + ranks) % ranks;
  ensure(place < static_cast<int>(patterns.size()) &&
             patterns[place].pattern.pairs == std::vector{RankPair(from, to)} &&
             !patterns[place].seconds.empty(),
         "no measurement of {} to {} alone", from, to);
  return patterns[place].seconds.back();
}

double rate(const Measurements& measurements, Rank from, Rank to) {
  const double whole = measurements.alone(from, to).median;
  const double bytes = static_cast<double>(measurements.sizes.back());
  const double trip = 2 * measurements.latency[from][to].median;
  // A latency that leaves nothing is none to subtract.
  return bytes / (trip < whole ? whole - trip : whole);
}

Grouping find_groups(const Measurements& measurements) {
  const int ranks = measurements.ranks;
  Matrix rates(ranks, std::vector<double>(ranks));
  Matrix quickness = rates;
  for (Rank a = 0; a < ranks; ++a) {
    for (Rank b = 0; b < ranks; ++b) {
      if (a == b) continue;
      rates[a][b] =
          std::min(rate(measurements, a, b), rate(measurements, b, a));
      quickness[a][b] = 1 / std::max({measurements.latency[a][b].median,
                                      measurements.latency[b][a].median,
                                      std::numeric_limits<double>::min()});
    }
  }
  if (const auto bound = threshold(rates, kRateGap)) {
    return group(rates, *bound);
  }
  if (const auto bound = threshold(quickness, kLatencyGap)) {
    // Latencies alone prove nothing: what forms no nodes is noise.
    Grouping found = group(quickness, *bound);
    if (found.are_nodes()) return found;
  }
  return {};
}

Json to_json(const Measurements& measurements) {
  Json latency = Json::array();
  for (Rank from = 0; from < measurements.ranks; ++from) {
    for (Rank to = 0; to < measurements.ranks; ++to) {
      if (from == to) continue;
      Json item = {{"from", from}, {"to", to}};
      item.update(to_json(measurements.latency[from][to]));
      latency.push_back(std::move(item));
    }
  }
  Json patterns = Json::array();
  for (const Measurements::Timed& timed : measurements.patterns) {
    Json seconds = Json::array();
    for (const Figure& figure : timed.seconds) {
      seconds.push_back(to_json(figure));
    }
    patterns.push_back({{"kind", timed.pattern.kind},
                        {"name", timed.pattern.name},
                        {"pairs", timed.pattern.pairs.size()},
                        {"seconds", std::move(seconds)}});
  }
  return {{"rounds", measurements.rounds},
          {"sizes", measurements.sizes},
          {"latency_seconds", std::move(latency)},
          {"patterns", std::move(patterns)}};
}

}  // namespace ringweave::discovery
