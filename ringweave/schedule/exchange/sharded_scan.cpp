// Each rank composes its slice of the rows for all segments: all summaries go
// there in slices, and back come the states before each segment.
#include <algorithm>
#include <memory>

#include "ringweave/base/error.h"
#include "ringweave/schedule/exchange/state_exchange.h"
#include "ringweave/schedule/schedule_builder.h"

namespace ringweave::schedule {
namespace {

/// With n ranks, an owner's blocks are, by strand:
///   i < n: of its segments, slice i, for rank i: decays, then updates;
///   n + r: of its slice, the states before the segments of rank r;
///   2 n:   of its slice, the state after all segments.
class ShardedDemand final : public ScanDemand {
 public:
  explicit ShardedDemand(const StateDemand& states)
      : ScanDemand(states, states.ranks),
        summaries_(states.ranks),
        ends_(states.ranks) {
    const bool alone = std::ranges::any_of(states.segments, [&](auto segment) {
      return segments_of(segment.rank) == places();
    });
    sends_end_ = states.end_everywhere || (!states.causal && !alone);
    const bool sends_states = states.causal && !alone;
    // The last summary is only needed for the state after all.
    int scanned = 0;
    if (sends_states) scanned = places() - 1;
    if (sends_end_) scanned = places();
    // Backward knows the decays from forward.
    if (has_decays() && states.pass == Pass::forward) {
      for (int place = 1; place < scanned; ++place) add_summary(place, true);
    }
    for (int place = 0; place < scanned; ++place) add_summary(place, false);
    for (int place = 1; sends_states && place < places(); ++place) {
      ends_[segment(place).rank].push_back(place);
    }
    for (const auto& ends : ends_) most_ = std::max(most_, ends.size());
  }

  int strands() const override { return 2 * ranks() + 1; }
  int parts(Rank owner) const override {
    return static_cast<int>(std::max(most_, summaries_[owner].size()));
  }

  std::optional<Composed> content(const BlockId& block) const override {
    const auto [owner, strand, part] = block;
    const auto index = static_cast<std::size_t>(part);
    const bool scatters = strand < ranks();
    if (rows(scatters ? strand : owner).empty()) return std::nullopt;
    if (scatters) {
      const std::vector<Composed>& summaries = summaries_[owner];
      if (strand == owner || index >= summaries.size()) return std::nullopt;
      return Composed{summaries[index].places, strand, summaries[index].decay};
    }
    if (strand == 2 * ranks()) {
      if (!sends_end_ || part > 0 || places() == 0) return std::nullopt;
      return Composed{{0, places()}, owner};
    }
    const std::vector<int>& ends = ends_[strand - ranks()];
    if (strand - ranks() == owner || index >= ends.size()) return std::nullopt;
    return Composed{{0, ends[index]}, owner};
  }

  bool needs(Rank rank, const BlockId& block, int strands) const override {
    if (rank == block.owner || !content(block)) return false;
    if (block.strand < ranks()) return rank == block.strand;
    if (block.strand < 2 * ranks()) return rank == block.strand - ranks();
    // Who has the state before the last segment, and that, has the end.
    const bool composes = states().causal && segment(places() - 1).rank == rank;
    return needs_end(rank) && !composes;
  }

  bool brought_by_forward(Rank rank, int place, int slice) const override {
    return states().pass == Pass::backward && slice == rank && place > 0 &&
           place + 1 < places();
  }

 private:
  void add_summary(int place, bool decay) {
    summaries_[segment(place).rank].push_back({{place, place + 1}, 0, decay});
  }

  bool sends_end_ = false;
  std::size_t most_ = 1;                          // parts of states to one rank
  std::vector<std::vector<Composed>> summaries_;  // [owner], without slices
  std::vector<std::vector<int>> ends_;  // [rank]: places of its segments
};

class ShardedScan final : public StateExchange {
 public:
  std::string name() const override { return "sharded_scan"; }
  int strands(int ranks) const override { return ranks; }
  std::unique_ptr<const ScanDemand> scan(
      const StateDemand& states) const override {
    return std::make_unique<ShardedDemand>(states);
  }

  Schedule schedule(const StateDemand& states,
                    std::optional<Rank> rank) const override {
    const ShardedDemand demand(states);
    const int n = states.ranks;
    ScheduleBuilder builder(demand, demand.strands(), Pass::forward, 2);
    for (Rank from = 0; from < n; ++from) {
      for (Rank to = 0; to < n; ++to) {
        if (from == to || (rank && *rank != from && *rank != to)) continue;
        const auto send = [&](int strand, int step, int slot) {
          for (int part = 0; part < demand.parts(from); ++part) {
            const BlockId block{from, strand, part};
            if (!demand.needs(to, block, demand.strands())) continue;
            builder.add(Transfer{from, to, block, Payload::summary,
                                 demand.action(demand.composed(block)), step,
                                 step + 1, kOwn, slot});
            if (!rank || *rank == to) builder.add(Retained{to, block, slot});
          }
        };
        send(to, 0, from);
        send(n + to, 1, n + from);
        send(2 * n, 1, 2 * n + from);
      }
    }
    return builder.finish();
  }
};

}  // namespace

StateExchangeKind sharded_scan() {
  return {.name = "sharded_scan",
          .make =
              [](const std::string& parameters) {
                check_no_parameters("sharded_scan", parameters);
                return std::make_shared<ShardedScan>();
              },
          .candidates =
              [](int) {
                return std::vector<StateExchangePtr>{
                    std::make_shared<ShardedScan>()};
              }};
}

}  // namespace ringweave::schedule
