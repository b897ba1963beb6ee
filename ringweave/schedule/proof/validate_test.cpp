#include "ringweave/schedule/proof/validate.h"

#include <algorithm>
#include <climits>
#include <functional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

AttentionDemand zigzag_causal(int ranks) {
  const Layout layout = Layout::zigzag(8 * ranks + 3, ranks);
  return AttentionDemand(layout, layout, Mask::causal());
}

// One strategy's schedules, with what their validation wants.
struct Subject {
  AttentionDemand demand;
  Strategy strategy;

  int strands() const { return strand_count(strategy, demand.ranks()); }
  Schedule make(Pass pass) const { return whole(strategy, demand, pass); }
  void check(const Schedule& schedule) const {
    validate(schedule, demand, strands());
  }
};

// Calls test(subject, schedule) for every strategy and pass.
void for_each_schedule(
    int ranks, const std::function<void(const Subject&, Schedule)>& test) {
  for (const Strategy& strategy : test_strategies(ranks)) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      SCOPED_TRACE(name(strategy) + ", " + name(pass));
      const Subject subject{zigzag_causal(ranks), strategy};
      test(subject, subject.make(pass));
    }
  }
}

TEST(Validate, EveryTransferAndTileIsNeeded) {
  for_each_schedule(4, [](const Subject& subject, const Schedule& good) {
    for (std::size_t i = 0; i < good.transfers.size(); ++i) {
      Schedule bad = good;
      bad.transfers.erase(bad.transfers.begin() + i);
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "transfer " << i;
    }
    for (std::size_t i = 0; i < good.tiles.size(); ++i) {
      Schedule bad = good;
      bad.tiles.erase(bad.tiles.begin() + i);
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "tile " << i;
    }
    if (good.pass == Pass::forward) return;
    for (std::size_t i = 0; i < good.retained.size(); ++i) {
      Schedule bad = good;
      bad.retained.erase(bad.retained.begin() + i);
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "retained " << i;
    }
  });
}

TEST(Validate, NothingMayBeDoubled) {
  for_each_schedule(4, [](const Subject& subject, const Schedule& good) {
    for (const Transfer& transfer : good.transfers) {
      Schedule bad = good;
      bad.transfers.push_back(transfer);
      EXPECT_THROW(subject.check(bad), InvalidArgument);
      // Into a slot where nothing is in the way, as late as possible.
      bad.transfers.back().slot = 1000;
      EXPECT_THROW(subject.check(bad), InvalidArgument);
      bad.transfers.back().wait_step = good.steps;
      bad.transfers.back().post_step = good.steps - 1;
      EXPECT_THROW(subject.check(bad), InvalidArgument);
    }
    for (const Tile& tile : good.tiles) {
      Schedule bad = good;
      bad.tiles.push_back(tile);
      EXPECT_THROW(subject.check(bad), InvalidArgument);
    }
    for (const Retained& retained : good.retained) {
      Schedule bad = good;
      bad.retained.push_back(retained);
      EXPECT_THROW(subject.check(bad), InvalidArgument);
    }
  });
}

TEST(Validate, NothingMayGoAstray) {
  for_each_schedule(4, [](const Subject& subject, const Schedule& good) {
    for (std::size_t i = 0; i < good.transfers.size(); ++i) {
      Schedule bad = good;
      Transfer& transfer = bad.transfers[i];
      // Along trees a part has the same slot everywhere, so it may as well come
      // from another rank that has it, and its gradient go to another that
      // adds.
      const bool tree = subject.strategy.kind == StrategyKind::synthesised;
      transfer.to = (transfer.to + 1) % 4;
      if (!tree || transfer.action == Action::copy) {
        EXPECT_THROW(subject.check(bad), InvalidArgument)
            << "receiver of " << i;
      }
      transfer = good.transfers[i];
      transfer.from = (transfer.from + 1) % 4;
      if (!tree || transfer.action == Action::add ||
          transfer.source_slot == kOwn) {
        EXPECT_THROW(subject.check(bad), InvalidArgument) << "sender of " << i;
      }
      transfer = good.transfers[i];
      transfer.block.owner = (transfer.block.owner + 1) % 4;
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "owner of " << i;
      transfer = good.transfers[i];
      transfer.source_slot = transfer.source_slot == kOwn ? 0 : kOwn;
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "source of " << i;
      transfer = good.transfers[i];
      transfer.slot += 1000;
      // Only a staging slot may have any number.
      if (transfer.action == Action::copy) {
        EXPECT_THROW(subject.check(bad), InvalidArgument) << "slot of " << i;
      } else {
        EXPECT_NO_THROW(subject.check(bad)) << "slot of " << i;
      }
      transfer = good.transfers[i];
      transfer.action =
          transfer.action == Action::copy ? Action::add : Action::copy;
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "action of " << i;
    }
    for (std::size_t i = 0; i < good.tiles.size(); ++i) {
      Schedule bad = good;
      bad.tiles[i].rank = (bad.tiles[i].rank + 1) % 4;
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "rank of " << i;
      bad.tiles[i] = good.tiles[i];
      bad.tiles[i].slot = bad.tiles[i].slot == kOwn ? 0 : kOwn;
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "slot of " << i;
      if (good.pass == Pass::forward) continue;
      bad.tiles[i] = good.tiles[i];
      bad.tiles[i].grad_slot = bad.tiles[i].grad_slot == kOwn ? 0 : kOwn;
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "gradient of " << i;
    }
  });
}

TEST(Validate, NothingMayComeTooLate) {
  for_each_schedule(5, [](const Subject& subject, const Schedule& good) {
    for (std::size_t i = 0; i < good.transfers.size(); ++i) {
      if (good.transfers[i].wait_step == good.steps) continue;
      // By the last step whatever it brings has been used.
      Schedule bad = good;
      bad.transfers[i].wait_step = good.steps;
      // A gradient that the owner adds has until the end, if its slots are not
      // used again.
      if (bad.transfers[i].action == Action::add) continue;
      EXPECT_THROW(subject.check(bad), InvalidArgument) << "transfer " << i;
    }
  });
}

// Three ranks, one token each: small enough to say what is wrong.
class ValidateText : public ::testing::Test {
 protected:
  ValidateText()
      : subject_{AttentionDemand(Layout::contiguous(3, 3),
                                 Layout::contiguous(3, 3), Mask::full()),
                 strategy_from_name("ring")} {}

  void expect(const std::function<void(Schedule&)>& spoil,
              std::initializer_list<const char*> texts,
              Pass pass = Pass::forward) {
    Schedule schedule = subject_.make(pass);
    spoil(schedule);
    std::string what = "nothing";
    try {
      subject_.check(schedule);
    } catch (const InvalidArgument& error) {
      what = error.what();
    }
    for (const char* text : texts) EXPECT_THAT(what, HasSubstr(text));
  }

  Subject subject_;
};

TEST_F(ValidateText, NamesTheTransferOrTile) {
  // Transfers 0 … 2 are hop 0, 3 … 5 hop 1; tiles 0 … 2 are own ones.
  expect([](Schedule& s) { s.tiles.erase(s.tiles.begin() + 5); },
         {"[validate] missing tile: rank 2 needs block (owner 1, strand 0, "
          "part 0)"});
  expect([](Schedule& s) { s.tiles.push_back(s.tiles[4]); },
         {"doubled tile of block (owner 0, strand 0, part 0) on rank 1"});
  expect([](Schedule& s) { s.transfers.erase(s.transfers.begin() + 1); },
         {"impossible transfer of kv of block (owner 1, strand 0, part 0) from "
          "rank 2 to rank 0, steps 1 … 2",
          "slot 1 of kv on rank 2 does not hold the block",
          "a transfer is missing"});
  expect(
      [](Schedule& s) {
        s.transfers.push_back(s.transfers[0]);
        s.transfers.back().slot = 7;
      },
      {"doubled transfer of kv of block (owner 0", "to rank 1",
       "the receiver has the block"});
  expect([](Schedule& s) { s.transfers[3].source_slot = kOwn; },
         {"only keys and values of the sender's own block"});
  expect([](Schedule& s) { s.transfers[3].post_step = 2; },
         {"want 0 <= post step < wait step <= 3"});
  expect([](Schedule& s) { s.transfers[0].to = 0; },
         {"want two different ranks 0 … 2"});
  expect([](Schedule& s) { s.transfers[0].payload = Payload::kv_grad; },
         {"payload kv_grad with action copy has no place in a forward pass"});
  expect([](Schedule& s) { s.tiles[4].slot = 9; },
         {"impossible tile of block (owner 0", "slot 9 of kv on rank 1"});
  expect([](Schedule& s) { s.retained[0].slot = 1; },
         {"impossible retained block (owner 1", "on rank 0"});
  expect([](Schedule& s) { s.blocks.erase(s.blocks.begin()); },
         {"the block is empty or not in the list of blocks"});
  expect([](Schedule& s) { s.blocks[0].size = 2; },
         {"got size 2 of block (owner 0, strand 0, part 0); want 1"});
}

TEST_F(ValidateText, NamesWhatIsWrongWithGradients) {
  expect([](Schedule& s) { s.transfers.pop_back(); },
         {"missing transfer",
          "gradient of block (owner 1, strand 0, part 0) "
          "never reaches its owner"},
         Pass::backward);
  expect(
      [](Schedule& s) {
        for (Transfer& t : s.transfers) {
          if (t.to == t.block.owner) t.action = Action::copy;
        }
      },
      {"an owner adds gradients"}, Pass::backward);
  expect([](Schedule& s) { s.retained.push_back(s.retained[0]); },
         {"doubled retained block"}, Pass::backward);
}

TEST_F(ValidateText, RefusesSlotsInUse) {
  // Rank 1 receives the second block into the slot that it computes from and
  // sends from at that time.
  expect(
      [](Schedule& s) {
        for (Transfer& t : s.transfers) t.slot = 1;
        for (Transfer& t : s.transfers)
          t.source_slot = t.source_slot == kOwn ? kOwn : 1;
        for (Tile& t : s.tiles) t.slot = t.slot == kOwn ? kOwn : 1;
      },
      {"slot 1 of kv on rank", "is still in use"});
}

TEST(Validate, AcceptsAnyNumbers) {
  const Subject subject{zigzag_causal(4), strategy_from_name("multi_ring")};
  const int garbage[] = {INT_MIN, -2, -1, 0, 1, 3, 4, 1 << 20, INT_MAX};
  std::mt19937 random(1);
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    const Schedule good = subject.make(pass);
    for (int round = 0; round < 4000; ++round) {
      Schedule bad = good;
      const auto number = [&] { return garbage[random() % 9]; };
      for (int changes = 1 + random() % 3; changes > 0; --changes) {
        Transfer& t = bad.transfers[random() % bad.transfers.size()];
        Tile& tile = bad.tiles[random() % bad.tiles.size()];
        Retained& kept = bad.retained[random() % bad.retained.size()];
        Block& block = bad.blocks[random() % bad.blocks.size()];
        int* const fields[] = {
            &t.from,          &t.to,          &t.block.owner,
            &t.block.strand,  &t.block.part,  &t.post_step,
            &t.wait_step,     &t.source_slot, &t.slot,
            &tile.rank,       &tile.step,     &tile.block.owner,
            &tile.block.part, &tile.slot,     &tile.grad_slot,
            &kept.rank,       &kept.slot,     &kept.block.strand,
            &block.id.owner,  &block.id.part, &bad.steps,
            &bad.ranks};
        *fields[random() % std::size(fields)] = number();
      }
      try {
        subject.check(bad);
      } catch (const InvalidArgument&) {
        continue;
      }
    }
  }
  Schedule bad = subject.make(Pass::forward);
  bad.steps = INT_MAX;
  EXPECT_THAT(
      [&] { subject.check(bad); },
      ThrowsMessage<InvalidArgument>(HasSubstr("got 2147483647 steps")));
  bad = subject.make(Pass::forward);
  bad.ranks = 5;
  EXPECT_THAT([&] { subject.check(bad); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("got a schedule of 5 ranks; want 4")));
  EXPECT_THROW(validate({}, subject.demand, 3), InvalidArgument);
  EXPECT_THROW(validate(subject.make(Pass::forward), subject.demand, 0),
               InvalidArgument);
}

}  // namespace
}  // namespace ringweave::schedule
