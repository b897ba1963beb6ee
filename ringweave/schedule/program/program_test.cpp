#include "ringweave/schedule/program/program.h"

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

struct Passes {
  Program forward;
  Program backward;
};

Passes compiled(const Strategy& strategy, const AttentionDemand& demand,
                Rank rank) {
  const int strands = strand_count(strategy, demand.ranks());
  Passes passes;
  passes.forward = compile(rank_part(strategy, demand, Pass::forward, rank),
                           rank, demand, strands);
  passes.backward = compile(rank_part(strategy, demand, Pass::backward, rank),
                            rank, demand, strands, &passes.forward);
  return passes;
}

AttentionDemand demand_of(const char* layout, const Mask& mask, int ranks,
                          std::int64_t tokens) {
  const Layout own = Layout::named(layout, tokens, ranks);
  return {own, own, mask};
}

/// Kernel calls of each step.
std::vector<std::size_t> calls(const Program& program) {
  std::vector<std::size_t> counts;
  for (const Program::Step& step : program.steps) {
    std::size_t count = 0;
    for (const Program::Region& region : step.regions) {
      count += region.calls.size();
    }
    counts.push_back(count);
  }
  counts.pop_back();  // the last one only waits
  return counts;
}

TEST(Program, OneCallPerStepOfAFullMaskWhateverTheStrands) {
  // Shards of 35, that 7 strands cut evenly, and of lengths that nothing
  // divides.
  for (const AttentionDemand& demand :
       {demand_of("contiguous", Mask::full(), 8, 280),
        AttentionDemand(Layout::contiguous({31, 40, 17, 8, 29, 3, 50, 11}),
                        Layout::contiguous({31, 40, 17, 8, 29, 3, 50, 11}),
                        Mask::full())}) {
    for (const char* name : {"ring", "multi_ring", "time_varying_multi_ring"}) {
      for (Rank rank = 0; rank < 8; ++rank) {
        const auto [forward, backward] =
            compiled(strategy_from_name(name), demand, rank);
        EXPECT_EQ(calls(forward), std::vector<std::size_t>(8, 1)) << name;
        EXPECT_EQ(calls(backward), std::vector<std::size_t>(8, 1)) << name;
      }
    }
    for (Rank rank = 0; rank < 8; ++rank) {
      const auto direct =
          compiled(strategy_from_name("direct:7"), demand, rank);
      EXPECT_EQ(calls(direct.forward), std::vector<std::size_t>(8, 1));
      const auto gather =
          compiled(strategy_from_name("all_gather"), demand, rank);
      EXPECT_THAT(calls(gather.forward), ElementsAre(0, 2));
      EXPECT_THAT(calls(gather.backward), ElementsAre(1, 1));
    }
  }
}

TEST(Program, FewCallsPerStepOfACausalMaskOnZigzagShards) {
  for (const int n : {2, 3, 4, 5, 6, 7, 8}) {
    for (const std::int64_t tokens : {2 * n * 21, 2 * n * 21 + 5, 3 * n - 1}) {
      const AttentionDemand demand =
          demand_of("zigzag", Mask::causal(), n, tokens);
      for (const Strategy& strategy : test_strategies(n)) {
        // Trees of random shapes bring blocks at random steps.
        if (strategy.kind == StrategyKind::synthesised) continue;
        const bool nodes = strategy.kind == StrategyKind::hierarchical ||
                           strategy.kind == StrategyKind::double_ring;
        const bool own_beside_others =
            strategy.kind == StrategyKind::all_gather;
        const std::size_t most = nodes || own_beside_others ? 3 : 2;
        for (Rank rank = 0; rank < n; ++rank) {
          SCOPED_TRACE(fmt::format("{}, {} tokens, {} ranks, rank {}",
                                   name(strategy), tokens, n, rank));
          const auto [forward, backward] = compiled(strategy, demand, rank);
          for (const std::size_t count : calls(forward)) {
            ASSERT_LE(count, most);
          }
          for (const std::size_t count : calls(backward)) {
            ASSERT_LE(count, most);
          }
        }
      }
    }
  }
}

TEST(Program, OwnShardIsOneCall) {
  for (const char* layout : {"contiguous", "zigzag", "striped"}) {
    for (const int n : {1, 3, 8}) {
      for (Rank rank = 0; rank < n; ++rank) {
        const AttentionDemand demand =
            demand_of(layout, Mask::causal(), n, 24 * n + 7);
        const Program program =
            compiled(strategy_from_name("multi_ring"), demand, rank).forward;
        const std::int64_t own = demand.kv_layout().shard_tokens(rank);
        ASSERT_EQ(program.steps[0].regions.size(), 1);
        const Program::Region& region = program.steps[0].regions[0];
        EXPECT_EQ(region.memory, Memory::input);
        EXPECT_THAT(region.calls,
                    ElementsAre(Program::Call{
                        {{0, own}, {0, own}, Area::Kind::causal}}))
            << layout << " " << n;
      }
    }
  }
}

// Of a causal mask with packed documents a step has no more calls than its rows
// and keys have documents, whatever the number of strands.
TEST(Program, CallsOfDocumentsFollowTheAreas) {
  const std::int64_t tokens = 8 * 2 * 7 * 10;
  std::vector<std::int64_t> offsets;
  for (std::int64_t at = 0; at < tokens; at += 160) offsets.push_back(at);
  offsets.push_back(tokens);
  const AttentionDemand demand =
      demand_of("zigzag", Mask::causal().with_documents(offsets), 8, tokens);
  for (Rank rank = 0; rank < 8; ++rank) {
    const auto [forward, backward] =
        compiled(strategy_from_name("multi_ring"), demand, rank);
    // A chunk of 70 tokens meets at most two documents, as does the other one.
    for (const std::size_t count : calls(forward)) EXPECT_LE(count, 4);
    for (const std::size_t count : calls(backward)) EXPECT_LE(count, 4);
  }
}

TEST(Program, SumsOfAStepAreOneWhereTheyAreNeighbours) {
  const AttentionDemand demand =
      demand_of("contiguous", Mask::full(), 8, 8 * 35);
  for (Rank rank = 0; rank < 8; ++rank) {
    const Program backward =
        compiled(strategy_from_name("multi_ring"), demand, rank).backward;
    for (std::size_t step = 0; step < backward.steps.size(); ++step) {
      EXPECT_EQ(backward.steps[step].sums.size(), step < 2 ? 0 : 1) << step;
    }
    EXPECT_TRUE(backward.packs_gradients);
    EXPECT_FALSE(backward.packed_gradients_start_at_zero);
    // The strands of a contiguous shard follow one another.
    EXPECT_THAT(backward.packing, ElementsAre(Program::Packed{0, {0, 35, 1}}));
  }
}

/// What happens to memory, played step by step: nothing is overwritten while it
/// is sent from, received into, or read later.
class MemoryPlayer {
 public:
  explicit MemoryPlayer(const Program& program)
      : program_(program), under_way_(program.messages.size()) {}

  void play() {
    for (const Program::Step& step : program_.steps) {
      for (const int i : step.arrivals) {
        under_way_[i] = false;
        write(program_.messages[i].payload, program_.messages[i].place);
      }
      for (const Program::Sum& sum : step.sums) {
        read(Payload::kv_grad, sum.from);
        read(Payload::kv_grad, sum.to);
        write(Payload::kv_grad, sum.to);
      }
      for (const int i : step.sent) under_way_[i] = false;
      for (const int i : step.receives) {
        idle(program_.messages[i].payload, program_.messages[i].place);
        forget(program_.messages[i].payload, program_.messages[i].place);
        under_way_[i] = true;
      }
      for (const int i : step.sends) {
        read(program_.messages[i].payload, program_.messages[i].place);
        under_way_[i] = true;
      }
      for (const Program::Region& region : step.regions) compute(region);
    }
  }

 private:
  using Cell = std::tuple<Payload, Memory, std::int64_t>;

  template <typename Visit>
  void visit(Payload payload, const Place& place, Visit visit) {
    ASSERT_GE(place.begin, 0);
    if (place.memory == Memory::scratch) {
      ASSERT_LE(place.end(), program_.scratch_size.at(payload));
    }
    if (place.memory == Memory::kept) {
      ASSERT_LE(place.end(), program_.kept_size);
    }
    for (std::int64_t i = place.begin; i < place.end(); ++i) {
      visit(Cell{payload, place.memory, i});
    }
  }
  bool always_there(const Cell& cell) const {
    const Memory memory = std::get<Memory>(cell);
    return memory == Memory::input || memory == Memory::packed ||
           (memory == Memory::kept && program_.pass == Pass::backward);
  }
  void read(Payload payload, const Place& place) {
    visit(payload, place, [&](const Cell& cell) {
      ASSERT_TRUE(always_there(cell) || there_.contains(cell));
      for (std::size_t i = 0; i < under_way_.size(); ++i) {
        const Program::Message& message = program_.messages[i];
        ASSERT_FALSE(under_way_[i] && !message.outgoing &&
                     covers(message, cell))
            << "read while it arrives";
      }
    });
  }
  void write(Payload payload, const Place& place) {
    visit(payload, place, [&](const Cell& cell) { there_.insert(cell); });
  }
  void forget(Payload payload, const Place& place) {
    visit(payload, place, [&](const Cell& cell) { there_.erase(cell); });
  }
  /// Neither sent from nor received into.
  void idle(Payload payload, const Place& place) {
    visit(payload, place, [&](const Cell& cell) {
      for (std::size_t i = 0; i < under_way_.size(); ++i) {
        ASSERT_FALSE(under_way_[i] && covers(program_.messages[i], cell))
            << "written while it is under way";
      }
    });
  }
  static bool covers(const Program::Message& message, const Cell& cell) {
    const auto& [payload, memory, index] = cell;
    return message.payload == payload && message.place.memory == memory &&
           message.place.begin <= index && index < message.place.end();
  }
  void compute(const Program::Region& region) {
    if (region.memory != Memory::input) {
      read(Payload::kv, {region.memory, region.keys.begin, region.keys.length});
    }
    std::int64_t gradients = 0;
    for (const Program::Region::Gradient& gradient : region.gradients) {
      if (gradient.place.memory == Memory::scratch) {
        idle(Payload::kv_grad, gradient.place);
      }
      write(Payload::kv_grad, gradient.place);
      EXPECT_EQ(gradient.keys.length, gradient.place.size);
      gradients += gradient.place.size;
    }
    if (program_.pass == Pass::backward &&
        (region.memory != Memory::input || program_.packs_gradients)) {
      EXPECT_EQ(gradients, region.keys.length);
    }
  }

  const Program& program_;
  std::vector<bool> under_way_;
  std::set<Cell> there_;
};

/// All rows × keys of the rank, each visible pair once; the order of first
/// calls.
void check_calls(const Program& program, const AttentionDemand& demand) {
  std::int64_t pairs = 0;
  std::vector<bool> cleared(demand.q_layout().shard_tokens(program.rank));
  for (const Range& range : program.rows_to_clear) {
    for (std::int64_t i = range.begin; i < range.end; ++i) cleared.at(i) = true;
  }
  for (const Program::Step& step : program.steps) {
    for (const Program::Region& region : step.regions) {
      for (const Program::Call& call : region.calls) {
        pairs += call.area.pairs();
        EXPECT_LE(call.area.keys.end, region.keys.length);
        for (std::int64_t i = call.area.rows.begin; i < call.area.rows.end;
             ++i) {
          ASSERT_EQ(cleared.at(i), !call.first_for_rows);
        }
        for (std::int64_t i = call.area.rows.begin; i < call.area.rows.end;
             ++i) {
          cleared[i] = true;
        }
      }
    }
  }
  EXPECT_EQ(std::ranges::count(cleared, false), 0);
  std::int64_t wanted = 0;
  for (const Run& queries : demand.q_layout().runs(program.rank)) {
    for (Rank owner = 0; owner < demand.ranks(); ++owner) {
      for (const Run& keys : demand.kv_layout().runs(owner)) {
        wanted += demand.mask().pairs(queries, keys);
      }
    }
  }
  EXPECT_EQ(pairs, wanted);
}

TEST(Program, UsesMemoryRightlyForEveryStrategyLayoutAndMask) {
  for (const int n : {1, 2, 3, 4, 6, 7}) {
    for (const TestCase& test : test_cases(5 * n + 3, n)) {
      for (const Strategy& strategy : test_strategies(n)) {
        for (Rank rank = 0; rank < n; ++rank) {
          SCOPED_TRACE(fmt::format("{}, {}, rank {} of {}", name(strategy),
                                   test.name, rank, n));
          const auto [forward, backward] =
              compiled(strategy, test.demand, rank);
          MemoryPlayer(forward).play();
          MemoryPlayer(backward).play();
          check_calls(forward, test.demand);
          check_calls(backward, test.demand);
          for (const auto& [block, place] : backward.kept) {
            EXPECT_EQ(place, forward.kept.at(block));
          }
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(Program, SendersAndReceiversCutMessagesAlike) {
  for (const int n : {3, 6, 8}) {
    for (const TestCase& test : test_cases(7 * n + 3, n)) {
      for (const Strategy& strategy : test_strategies(n)) {
        SCOPED_TRACE(fmt::format("{}, {}", name(strategy), test.name));
        using Key = std::pair<Rank, Rank>;
        std::map<Key, std::vector<std::int64_t>> sent;
        std::map<Key, std::vector<std::int64_t>> received;
        for (Rank rank = 0; rank < n; ++rank) {
          const Passes passes = compiled(strategy, test.demand, rank);
          for (const Program* program : {&passes.forward, &passes.backward}) {
            for (const Program::Step& step : program->steps) {
              for (const int i : step.sends) {
                const Program::Message& message = program->messages[i];
                sent[{rank, message.peer}].push_back(message.place.size);
              }
              for (const int i : step.receives) {
                const Program::Message& message = program->messages[i];
                received[{message.peer, rank}].push_back(message.place.size);
              }
            }
          }
        }
        ASSERT_EQ(sent, received);
      }
    }
  }
}

TEST(Program, NamesTheArrivalThatASendPassesOn) {
  const AttentionDemand demand = demand_of("contiguous", Mask::full(), 3, 30);
  const Program program =
      compiled(strategy_from_name("ring"), demand, 0).forward;
  ASSERT_EQ(program.messages.size(), 4);
  for (const Program::Message& message : program.messages) {
    if (!message.outgoing) continue;
    if (message.block.owner == 0) {
      EXPECT_EQ(message.forwards, -1);
    } else {
      ASSERT_GE(message.forwards, 0);
      EXPECT_EQ(program.messages[message.forwards].block, message.block);
      EXPECT_EQ(program.messages[message.forwards].place, message.place);
    }
  }
}

TEST(Program, TheArrivalBroughtAllThatIsPassedOn) {
  const AttentionDemand demand =
      demand_of("zigzag", Mask::causal().with_window({5, {}}), 4, 41);
  for (const Strategy& strategy : test_strategies(4)) {
    for (int rank = 0; rank < 4; ++rank) {
      const Passes programs = compiled(strategy, demand, rank);
      for (const Program* program : {&programs.forward, &programs.backward}) {
        for (const Program::Message& message : program->messages) {
          if (message.forwards < 0) continue;
          EXPECT_NE(message.payload, Payload::kv_grad) << name(strategy);
          EXPECT_TRUE(
              program->messages[message.forwards].place.contains(message.place))
              << name(strategy);
        }
      }
    }
  }
}

TEST(Program, RefusesWhatIsNoScheduleToRun) {
  const AttentionDemand demand = demand_of("contiguous", Mask::full(), 3, 30);
  const Strategy ring = strategy_from_name("ring");
  Schedule part = rank_part(ring, demand, Pass::forward, 0);
  for (Transfer& transfer : part.transfers) {
    if (transfer.from == 0 && transfer.source_slot != kOwn) {
      transfer.source_slot = 7;
    }
  }
  EXPECT_THAT([&] { compile(part, 0, demand, 1); },
              ThrowsMessage<InvalidArgument>(HasSubstr("slot 7 of kv")));
}

}  // namespace
}  // namespace ringweave::schedule
