#include "ringweave/schedule/exchange/state_exchange.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/exchange/exchange_program.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/proof/validate.h"

namespace ringweave::schedule {
namespace {

const std::vector<std::string> kNames = {
    "chain",
    "all_gather",
    "all_gather:ring",
    "all_gather:multi_ring",
    "all_gather:direct",
    "all_gather:hierarchical:nodes=2,slices=3"};

/// Zigzag, so that a rank has two segments that are not neighbours; a decay for
/// each row.
StateDemand demand_of(int ranks, Pass pass, bool causal, bool end_everywhere) {
  StateDemand states{.ranks = ranks,
                     .segments = {},
                     .pass = pass,
                     .causal = causal,
                     .end_everywhere = end_everywhere,
                     .summary = {.rows = 17, .width = 3, .decays = 17}};
  std::vector<int> parts(ranks);
  for (const Segment& segment : Layout::zigzag(31, ranks).segments()) {
    states.segments.push_back({segment.rank, parts[segment.rank]++});
  }
  return states;
}

std::vector<StateDemand> demands(int ranks) {
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
  for (const char* name : {"ring", "", "chain:ring", "all_gather:",
                           "all_gather:rings", "all_gather:chain"}) {
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
      for (const StateDemand& states : demands(ranks)) {
        const Schedule all = exchange->schedule(states, std::nullopt);
        if (exchange->arrival() == StateExchange::Arrival::composed) {
          EXPECT_NO_THROW(validate_scan(all, chain_demand(states)));
        } else {
          EXPECT_NO_THROW(validate_scan(all, SummaryDemand(states),
                                        exchange->strands(ranks)));
        }
      }
    }
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
    if (exchange->arrival() == StateExchange::Arrival::composed) continue;
    for (const StateDemand& states : demands(6)) {
      const SummaryDemand demand(states);
      for (Rank rank = 0; rank < 6; ++rank) {
        const ExchangeProgram program = compile(*exchange, states, rank);
        for (std::size_t i = 0; i < states.segments.size(); ++i) {
          const ChainSpec::Segment& segment = states.segments[i];
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
