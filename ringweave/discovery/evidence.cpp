#include "ringweave/discovery/evidence.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "ringweave/base/error.h"

namespace ringweave::discovery {
namespace {

/// A round trip of a small message takes at most this share of a large one's
/// time, or the rate is not to be seen.
constexpr double kMaxTripShare = 0.25;

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
    std::map<int, double> load;  // capacity → seconds
    double busiest = 0, trip = 0;
    for (const auto& [from, to] : pattern.pairs) {
      double latency = 0;
      for (const int index : routes_[from][to]) {
        const topology::Link& link = topology_.links()[index];
        const double seconds = bytes_ / link.bytes_per_second;
        busiest =
            std::max(busiest, load[capacity_of(topology_, index)] += seconds);
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

}  // namespace

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

std::string doubt_of(const Measurements& m) {
  for (std::string doubt : {noisy(m), latency_bound(m), faster_together(m)}) {
    if (!doubt.empty()) return doubt;
  }
  return {};
}

Mismatch worst_mismatch(const Measurements& m,
                        const topology::Topology& topology) {
  Mismatch worst;
  const Prediction prediction(topology, m.sizes.back());
  for (const auto& timed : m.patterns) {
    const double expected = prediction.seconds(timed.pattern);
    const Figure& figure = timed.seconds.back();
    const double ratio =
        std::clamp(expected, figure.low, figure.high) / expected;
    const double factor = std::max(ratio, 1 / ratio);
    if (factor > worst.factor) {
      worst.factor = factor;
      worst.text = fmt::format("\"{}\" took {:.3g} s instead of {:.3g} s",
                               timed.pattern.name, figure.median, expected);
    }
  }
  return worst;
}

int capacity_of(const topology::Topology& topology, int link) {
  const int shared = topology.links()[link].shared;
  return shared < 0 ? link : static_cast<int>(topology.links().size()) + shared;
}

}  // namespace ringweave::discovery
