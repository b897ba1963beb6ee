#include "ringweave/schedule/exchange/state_exchange.h"

#include <algorithm>
#include <iterator>

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/exchange/exchange_program.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/proof/validate.h"

namespace ringweave::schedule {
namespace {

const std::vector<std::string> kNames = {
    "chain",
    "pipelined_chain",
    "pipelined_chain:3",
    "sharded_scan",
    "log_step",
    "all_gather",
    "all_gather:ring",
    "all_gather:multi_ring",
    "all_gather:direct",
    "all_gather:hierarchical:nodes=2,slices=3"};

/// Zigzag, so that a rank has two segments that are not neighbours; under a
/// causal mask a decay for each row.
StateDemand demand_of(int ranks, Pass pass, bool causal, bool end_everywhere) {
  StateDemand states{
      .ranks = ranks,
      .segments = {},
      .pass = pass,
      .causal = causal,
      .end_everywhere = end_everywhere,
      .summary = {.rows = 17, .width = 3, .decays = causal ? 17 : 0}};
  std::vector<int> parts(ranks);
  for (const Segment& segment : Layout::zigzag(31, ranks).segments()) {
    states.segments.push_back({segment.rank, parts[segment.rank]++});
  }
  return states;
}

std::vector<StateDemand> state_demands(int ranks) {
  return {demand_of(ranks, Pass::forward, true, false),
          demand_of(ranks, Pass::forward, true, true),
          demand_of(ranks, Pass::forward, false, false),
          demand_of(ranks, Pass::backward, true, false),
          demand_of(ranks, Pass::backward, false, false)};
}

TEST(StateExchange, NamesAreReadBack) {
  for (const std::string& name : kNames) {
    EXPECT_EQ(state_exchange_from_name(name)->name(), name);
  }
  EXPECT_EQ(state_exchange_from_name("all_gather:all_gather")->name(),
            "all_gather");
  for (const char* name :
       {"ring", "", "chain:ring", "all_gather:", "all_gather:rings",
        "all_gather:chain", "pipelined_chain:0", "pipelined_chain:x",
        "pipelined_chain:4097", "sharded_scan:2", "log_step:2"}) {
    EXPECT_THROW(state_exchange_from_name(name), InvalidArgument) << name;
  }
}

TEST(StateExchange, CandidatesHaveNames) {
  for (const int nodes : {1, 2}) {
    for (const StateExchangePtr& exchange : all_exchanges(nodes)) {
      EXPECT_EQ(state_exchange_from_name(exchange->name())->name(),
                exchange->name());
    }
  }
  EXPECT_EQ(all_exchanges(2).size(), all_exchanges(1).size() + 1);
}

TEST(StateExchange, SaysWhyItCannotRun) {
  const auto exchange = state_exchange_from_name("all_gather:paths:nodes=2");
  EXPECT_FALSE(exchange->why_not(4));
  EXPECT_TRUE(exchange->why_not(3));
  EXPECT_FALSE(state_exchange_from_name("chain")->why_not(3));
}

TEST(StateExchange, SchedulesAreProved) {
  for (const std::string& name : kNames) {
    SCOPED_TRACE(name);
    const auto exchange = state_exchange_from_name(name);
    for (const int ranks : {2, 4, 6}) {
      for (const StateDemand& states : state_demands(ranks)) {
        const Schedule all = exchange->schedule(states, std::nullopt);
        if (const auto demand = exchange->scan(states)) {
          EXPECT_NO_THROW(validate_scan(all, *demand));
        } else {
          EXPECT_NO_THROW(validate_scan(all, SummaryDemand(states),
                                        exchange->strands(ranks)));
        }
      }
    }
  }
}

/// Of ways in which ranks compose.
TEST(StateExchange, TheProofFindsWhatIsMissingOrTooEarly) {
  for (const std::string& name : kNames) {
    SCOPED_TRACE(name);
    const auto exchange = state_exchange_from_name(name);
    for (const StateDemand& states : state_demands(4)) {
      const auto demand = exchange->scan(states);
      if (!demand) continue;
      const Schedule good = exchange->schedule(states, std::nullopt);
      const auto expect_bad = [&](const Schedule& bad) {
        EXPECT_THROW(validate_scan(bad, *demand), InvalidArgument);
      };
      for (std::size_t i = 0; i < good.transfers.size(); ++i) {
        SCOPED_TRACE(i);
        Schedule bad = good;
        const auto& [from, to, block, payload, action, post, wait, source,
                     slot] = good.transfers[i];
        bad.transfers.erase(bad.transfers.begin() + static_cast<int>(i));
        std::erase(bad.retained, Retained{to, block, slot});
        expect_bad(bad);
        bad = good;
        bad.transfers[i].action =
            action == Action::copy ? Action::compose : Action::copy;
        expect_bad(bad);
        if (Holdings(*demand, from).pieces(demand->composed(block))) {
          continue;
        }
        bad = good;
        bad.transfers[i].post_step = 0;
        expect_bad(bad);
      }
    }
  }
}

TEST(StateExchange, RanksHaveTheirPartsOfTheWhole) {
  for (const std::string& name : kNames) {
    SCOPED_TRACE(name);
    const auto exchange = state_exchange_from_name(name);
    for (const StateDemand& states : state_demands(4)) {
      const Schedule all = exchange->schedule(states, std::nullopt);
      for (Rank rank = 0; rank < 4; ++rank) {
        const Schedule part = exchange->schedule(states, rank);
        EXPECT_EQ(part.steps, all.steps);
        std::vector<Transfer> own;
        std::ranges::copy_if(all.transfers, std::back_inserter(own),
                             [&](const Transfer& transfer) {
                               return transfer.from == rank ||
                                      transfer.to == rank;
                             });
        EXPECT_EQ(part.transfers, own);
        EXPECT_EQ(std::ranges::count(all.retained, rank, &Retained::rank),
                  std::ranges::count(part.retained, rank, &Retained::rank));
      }
    }
  }
}

/// Units that each rank receives in a pass under a causal mask without a final
/// state, of summaries of 32 x 3 numbers and 32 decays. `zigzag`: else
/// contiguous.
std::vector<std::int64_t> received(const std::string& name, int ranks,
                                   bool zigzag, Pass pass) {
  StateDemand states{.ranks = ranks,
                     .segments = {},
                     .pass = pass,
                     .summary = {.rows = 32, .width = 3, .decays = 32}};
  const Layout layout = zigzag ? Layout::zigzag(16 * ranks, ranks)
                               : Layout::contiguous(16 * ranks, ranks);
  for (const Segment& segment : layout.segments()) {
    states.segments.push_back({segment.rank, segment.index});
  }
  std::vector<std::int64_t> units(ranks);
  for (const auto& [link, sent] : link_traffic(
           state_exchange_from_name(name)->schedule(states, std::nullopt))) {
    units[link.second] += sent.at(Payload::summary);
  }
  return units;
}

constexpr std::int64_t kUpdate = 32 * 3;
constexpr std::int64_t kDecays = 32;

/// Places of each rank's segments: contiguous r; zigzag r and 2n - 2 - r, where
/// the last rank's two are one.
std::vector<std::int64_t> places_of(Rank rank, int ranks, bool zigzag) {
  if (!zigzag || rank == ranks - 1) return {rank};
  return {rank, 2 * ranks - 2 - rank};
}

TEST(StateExchange, ChainsReceiveAStatePerSegmentButTheFirst) {
  for (const char* name : {"chain", "pipelined_chain", "pipelined_chain:3"}) {
    for (const int ranks : {2, 4, 8}) {
      for (const bool zigzag : {false, true}) {
        const auto got = received(name, ranks, zigzag, Pass::forward);
        for (Rank rank = 0; rank < ranks; ++rank) {
          std::int64_t want = 0;
          for (const auto place : places_of(rank, ranks, zigzag)) {
            if (place > 0) want += kUpdate;
          }
          EXPECT_EQ(got[rank], want) << name << " " << ranks << " " << rank;
        }
      }
    }
  }
}

/// Each rank gets its n-th part of the other ranks' summaries, but for the
/// last one, and of the first one's decay, which nobody needs; then the other
/// ranks' parts of the states before its segments.
TEST(StateExchange, ShardedScanReceivesSlicesOfSummariesAndOfStates) {
  for (const int ranks : {2, 4, 8}) {
    for (const bool zigzag : {false, true}) {
      const int last = zigzag ? 2 * ranks - 2 : ranks - 1;
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        const auto got = received("sharded_scan", ranks, zigzag, pass);
        for (Rank rank = 0; rank < ranks; ++rank) {
          std::int64_t want = 0;
          for (Rank owner = 0; owner < ranks; ++owner) {
            for (auto place : places_of(owner, ranks, zigzag)) {
              if (pass == Pass::backward) place = last - place;
              if (owner == rank) {
                if (place > 0) want += kUpdate * (ranks - 1) / ranks;
                continue;
              }
              if (place < last) want += kUpdate / ranks;
              if (place < last && place > 0 && pass == Pass::forward) {
                want += kDecays / ranks;
              }
            }
          }
          EXPECT_EQ(got[rank], want) << ranks << " ranks, rank " << rank;
        }
      }
    }
  }
}

/// In round i each segment gets the segments p - 2^(i+1) + 1 … p - 2^i, with
/// their decay unless they reach back to the first one.
TEST(StateExchange, LogStepReceivesComposedSegmentsInEachRound) {
  for (const int ranks : {2, 4, 8}) {
    for (const bool zigzag : {false, true}) {
      const int last = zigzag ? 2 * ranks - 2 : ranks - 1;
      std::vector<Rank> holders(last + 1);
      for (Rank rank = 0; rank < ranks; ++rank) {
        for (const auto place : places_of(rank, ranks, zigzag)) {
          holders[place] = rank;
        }
      }
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        if (pass == Pass::backward) std::ranges::reverse(holders);
        std::vector<std::int64_t> want(ranks);
        for (int place = 0; place <= last; ++place) {
          for (int distance = 1; distance <= place; distance *= 2) {
            if (holders[place - distance] == holders[place]) continue;
            want[holders[place]] += kUpdate;
            if (place >= 2 * distance) want[holders[place]] += kDecays;
          }
        }
        EXPECT_EQ(received("log_step", ranks, zigzag, pass), want)
            << ranks << " ranks";
      }
    }
  }
}

TEST(StateExchange, LogStepTakesLogarithmicallyManySteps) {
  for (const auto& [ranks, steps] :
       {std::pair{1, 1}, {2, 2}, {3, 3}, {4, 3}, {5, 4}, {8, 4}, {9, 5}}) {
    StateDemand states{.ranks = ranks, .segments = {}};
    for (Rank rank = 0; rank < ranks; ++rank) {
      states.segments.push_back({rank, 0});
    }
    // The last step only waits, or sends the state after all segments.
    EXPECT_EQ(state_exchange_from_name("log_step")
                  ->schedule(states, std::nullopt)
                  .steps,
              steps);
  }
}

/// A decay per head, of which slices of rows share one.
TEST(StateExchange, SlicesOfRowsThatShareADecayGetItAll) {
  StateDemand states = demand_of(4, Pass::forward, true, true);
  states.summary = {.rows = 15, .width = 2, .decays = 3};
  const auto exchange = state_exchange_from_name("sharded_scan");
  const auto demand = exchange->scan(states);
  EXPECT_NO_THROW(
      validate_scan(exchange->schedule(states, std::nullopt), *demand));
  // Rows 0 … 3, 4 … 7, 8 … 11 and 12 … 14, of which five share a number.
  const std::vector<Range> want = {{0, 1}, {0, 2}, {1, 3}, {2, 3}};
  for (int slice = 0; slice < 4; ++slice) {
    EXPECT_EQ(demand->decays(slice), want[slice]) << slice;
  }
}

/// Rows that strips are of, in order.
std::vector<std::int64_t> rows_of(const std::vector<Strips>& all) {
  std::vector<std::int64_t> rows;
  for (const Strips& strips : all) {
    for (std::int64_t row = strips.rows.begin; row < strips.rows.end; ++row) {
      rows.push_back(row);
    }
  }
  return rows;
}

TEST(ExchangeProgram, FindsAllRowsOfWhatARankNeeds) {
  for (const std::string& name : kNames) {
    SCOPED_TRACE(name);
    const auto exchange = state_exchange_from_name(name);
    for (const StateDemand& states : state_demands(6)) {
      if (exchange->scan(states)) continue;
      const SummaryDemand demand(states);
      for (Rank rank = 0; rank < 6; ++rank) {
        const ExchangeProgram program = compile(*exchange, states, rank);
        for (std::size_t i = 0; i < states.segments.size(); ++i) {
          const StateDemand::Segment& segment = states.segments[i];
          const bool needed =
              segment.rank == rank ||
              demand.needs(rank, segment.rank, demand.update_part(segment));
          std::vector<std::int64_t> want(needed ? 17 : 0);
          for (std::size_t row = 0; row < want.size(); ++row) {
            want[row] = static_cast<std::int64_t>(row);
          }
          const auto& update = program.summaries[i].update;
          EXPECT_EQ(rows_of(update), want);
          // Long strands, short ones, and those that are passed on.
          EXPECT_LE(update.size(), 3u);
        }
      }
    }
  }
}

/// With one strand a summary is one strip; equal strands are one, too.
TEST(ExchangeProgram, EqualStrandsAreOneStrip) {
  StateDemand states = demand_of(4, Pass::forward, true, true);
  states.summary.rows = states.summary.decays = 18;
  for (const char* name : {"all_gather", "all_gather:direct"}) {
    const ExchangeProgram program =
        compile(*state_exchange_from_name(name), states, 1);
    for (const ExchangeProgram::Summary& summary : program.summaries) {
      EXPECT_EQ(summary.update.size(), 1u) << name;
    }
  }
}

TEST(StrandRows, TileTheRows) {
  for (const std::int64_t rows : {0, 1, 5, 6, 7, 100}) {
    for (const int strands : {1, 3, 7}) {
      std::int64_t end = 0;
      std::int64_t last = rows;
      for (int strand = 0; strand < strands; ++strand) {
        const Range piece = strand_rows(rows, strand, strands);
        EXPECT_EQ(piece.begin, end);
        EXPECT_LE(piece.size(), last);
        EXPECT_GE(piece.size(), rows / strands);
        end = piece.end;
        last = piece.size();
      }
      EXPECT_EQ(end, rows);
    }
  }
}

}  // namespace
}  // namespace ringweave::schedule
