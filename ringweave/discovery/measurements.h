// What a probe measures between ranks: numbers only, so that classify.h needs
// no ranks.
//
// A pattern is a set of ordered pairs that send at the same time, one message
// each; a pair alone is a pattern of one. Its time is that of the last rank to
// have all its messages, from asking for them: the way there and back without
// bytes, and the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"

namespace ringweave::discovery {

using RankPair = std::pair<Rank, Rank>;  ///< from, to

/// Of repeats: their median, and their first and third quartile.
struct Figure {
  double median = 0;
  double low = 0;
  double high = 0;
};

/// Throws InternalError for none.
Figure figure_of(std::vector<double> repeats);

struct Pattern {
  std::string kind;  ///< such as "alone" or "one to all"
  std::string name;  ///< such as "0 to 1" or "0 to all"
  std::vector<RankPair> pairs;
};

/// What needs no knowledge of the machine: each pair alone, each rank to all
/// others and all others to it, the ring r → r + 1, all pairs.
std::vector<Pattern> flat_patterns(int ranks);
/// What shows how groups are joined: all pairs inside groups; each group to
/// each other, rank by rank. Groups have the same size.
std::vector<Pattern> group_patterns(
    const std::vector<std::vector<Rank>>& groups);

struct Measurements {
  struct Timed {
    Pattern pattern;
    std::vector<Figure> seconds;  ///< by size
  };

  int ranks = 0;
  int rounds = 0;                   ///< repeats behind each figure
  std::vector<std::int64_t> sizes;  ///< bytes of a message, ascending
  /// One way, half of a round trip of a small message; [from][to].
  std::vector<std::vector<Figure>> latency;
  std::vector<Timed> patterns;  ///< those of flat_patterns() first

  /// Of the largest message from one rank to another, nothing else under way.
  /// Throws InternalError if it was not measured.
  const Figure& alone(Rank from, Rank to) const;
};

/// Bytes per second of a pair alone: largest message, less a round trip.
double rate(const Measurements& measurements, Rank from, Rank to);

/// Ranks that are nearer to each other than to the rest.
struct Grouping {
  std::vector<std::vector<Rank>> groups;  ///< empty: all are alike
  std::string contradiction;              ///< why they are no nodes; or empty

  bool are_nodes() const { return !groups.empty() && contradiction.empty(); }
};

/// By rates; where they show no two levels, by latencies. Nodes have the same
/// number of ranks, at least 2, and nearness must be transitive.
Grouping find_groups(const Measurements& measurements);

Json to_json(const Measurements& measurements);

}  // namespace ringweave::discovery
