#include "ringweave/comm/local_transport.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/test_messages.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(LocalTransport, DeliversEveryMessageInOrder) {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    run_ranks(ranks, [](Rank rank, auto transport) {
      EXPECT_EQ(transport->rank(), rank);
      exchange(rank, *transport, 20);
    });
  }
}

/// A batch of one message to and one from every other rank, twice.
struct Exchange {
  Exchange(Rank rank, int ranks, std::size_t length) {
    for (int i = 0; i < 2; ++i) {
      for (Rank peer = 0; peer < ranks; ++peer) {
        if (peer == rank) continue;
        sent.push_back(Ints(length, 100 * rank + 10 * peer + i));
        received.push_back(Ints(length));
        wanted.push_back(Ints(length, 100 * peer + 10 * rank + i));
        sends.push_back(
            {.to = peer, .buffer = borrowed(std::span(sent.back()))});
        receives.push_back({peer, borrowed(std::span(received.back()))});
      }
    }
  }

  std::vector<Ints> sent, received, wanted;
  std::vector<Receive> receives;
  std::vector<Send> sends;
};

TEST(LocalTransport, PostsABatchInItsOrder) {
  // Short and long: the latter's peers are told before the batch ends.
  for (const std::size_t length : {1, 10'000}) {
    run_ranks(4, [&](Rank rank, auto transport) {
      Exchange mine(rank, 4, length);
      const Works works = transport->post({mine.receives, mine.sends}, {});
      ASSERT_EQ(works.size(), mine.receives.size() + mine.sends.size());
      for (std::size_t i = 0; i < mine.received.size(); ++i) {
        works[i]->block({}, soon());
        EXPECT_EQ(mine.received[i], mine.wanted[i]);
      }
      for (const auto& work : works) work->wait(soon());
    });
  }
}

TEST(LocalTransport, AMessageKeepsItsMemory) {
  const LocalWorld world(2);
  const auto owned = [](Ints values) {
    const auto owner = std::make_shared<Ints>(std::move(values));
    Buffer buffer = borrowed(std::span(*owner));
    buffer.owner = owner;
    return std::pair(buffer, std::weak_ptr(owner));
  };
  auto [source, source_alive] = owned({7, 8});
  auto [target, target_alive] = owned({0, 0});
  Send send{.to = 1, .buffer = std::exchange(source, {})};
  Receive receive{.from = 0, .buffer = std::exchange(target, {})};
  auto sent = world.transport(0)->post({{}, {&send, 1}}, {});
  auto received = world.transport(1)->post({{&receive, 1}, {}}, {});
  send.buffer = receive.buffer = {};
  received.front()->wait(soon());
  sent.front()->wait(soon());
  EXPECT_EQ(*target_alive.lock(), (Ints{7, 8}));
  sent.clear();
  received.clear();
  EXPECT_TRUE(source_alive.expired());
  EXPECT_TRUE(target_alive.expired());
}

TEST(LocalTransport, OtherLengthIsAnErrorOnBothSides) {
  for (const bool sender_first : {true, false}) {
    const auto errors = rank_outcomes(2, [&](Rank rank, auto transport) {
      if ((rank == 0) != sender_first) std::this_thread::sleep_for(20ms);
      Ints values(rank == 0 ? 3 : 2);
      auto work = rank == 0 ? send(*transport, 1, values)
                            : receive(*transport, 0, values);
      work->wait(soon());
    });
    for (const Rank rank : {0, 1}) {
      EXPECT_THAT(facts(errors[rank]).cause,
                  HasSubstr("sent 24 bytes, rank 1 wants 16"));
      EXPECT_EQ(facts(errors[rank]).rank, rank);
      EXPECT_EQ(facts(errors[rank]).peer, 1 - rank);
    }
  }
}

TEST(LocalTransport, TimesOutAndMarksThePeer) {
  const LocalWorld world(2);
  Ints value(1);
  const auto transport = world.transport(1);
  auto work = receive(*transport, 0, value);
  const auto start = Clock::now();
  try {
    work->wait(soon(50ms));
    FAIL() << "no error";
  } catch (const CommError& error) {
    EXPECT_EQ(error.facts().rank, 1);
    EXPECT_EQ(error.facts().peer, 0);
    EXPECT_EQ(error.facts().first_failed, 0);
    EXPECT_THAT(error.what(), HasSubstr("no answer within 0."));
  }
  EXPECT_GE(Clock::now() - start, 50ms);
  EXPECT_LT(Clock::now() - start, 5s);
  EXPECT_EQ(transport->first_failed(), 0);
}

TEST(LocalTransport, TheMarkNamesTheFirstOnly) {
  const LocalWorld world(3);
  EXPECT_EQ(world.transport(0)->first_failed(), std::nullopt);
  world.transport(0)->mark_failed(2);
  world.transport(1)->mark_failed(0);
  EXPECT_EQ(world.transport(1)->first_failed(), 2);
}

TEST(LocalTransport, AMarkWakesEveryWaiter) {
  const auto start = Clock::now();
  const auto errors = rank_outcomes(5, [](Rank rank, auto transport) {
    if (rank == 4) {
      std::this_thread::sleep_for(30ms);
      throw std::runtime_error("four fell over");
    }
    Ints value(1);
    // 0 ← 1 ← 2 ← 3 ← 0: nobody waits for rank 4.
    receive(*transport, (rank + 1) % 4, value)->wait(soon());
  });
  EXPECT_LT(Clock::now() - start, 10s);
  for (Rank rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(facts(errors[rank]).first_failed, 4);
    EXPECT_EQ(facts(errors[rank]).peer, (rank + 1) % 4);
  }
}

TEST(LocalTransport, WaitingForARankThatHasEndedIsAnError) {
  const auto errors = rank_outcomes(2, [](Rank rank, auto transport) {
    Ints value(1);
    if (rank == 0) receive(*transport, 1, value)->wait(soon());
  });
  EXPECT_EQ(facts(errors[0]).cause, "rank 1 has ended");
  EXPECT_EQ(errors[1], nullptr);
}

TEST(LocalTransport, AbandonedMessagesBreakThePair) {
  const LocalWorld world(2);
  Ints value(1);
  send(*world.transport(0), 1, value);  // dropped at once
  auto late = receive(*world.transport(1), 0, value);
  try {
    late->wait(soon());
    FAIL() << "no error";
  } catch (const CommError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 gave up"));
  }
  // The other direction still works.
  auto received = receive(*world.transport(0), 1, value);
  const Ints seven{7};
  auto sent = send(*world.transport(1), 0, seven);
  received->wait(soon());
  sent->wait(soon());
  EXPECT_EQ(value, seven);
}

// Ranks that unwind free their buffers while peers copy from and into them.
// Only a sanitizer can see this fail.
TEST(LocalTransport, BuffersAreSafeWhenRanksFailInTheMiddle) {
  for (int round = 0; round < 40; ++round) {
    const std::chrono::microseconds delay(round % 2 == 0 ? 0 : 100);
    rank_outcomes(
        4,
        [&](Rank rank, auto transport) {
          for (int i = 0; i < 4; ++i) {
            std::vector<Ints> buffers(6, Ints(20'000));
            Works works;
            for (int hop = 1; hop < 4; ++hop) {
              const Rank to = (rank + hop) % 4, from = (rank - hop + 4) % 4;
              works.push_back(receive(*transport, from, buffers[2 * hop - 1]));
              works.push_back(send(*transport, to, buffers[2 * hop - 2]));
              if (i == 1 && rank == round % 4 && hop == 1 + round % 3) {
                throw std::runtime_error("in the middle");
              }
            }
            for (auto& work : works) work->wait(soon());
          }
        },
        {.seed = static_cast<std::uint64_t>(round), .max_delay = delay});
  }
}

// As above, with a batch each.
TEST(LocalTransport, BuffersAreSafeWhenBatchesFail) {
  for (int round = 0; round < 40; ++round) {
    rank_outcomes(4, [&](Rank rank, auto transport) {
      for (int i = 0; i < 4; ++i) {
        Exchange mine(rank, 4, 20'000);
        const Works works = transport->post({mine.receives, mine.sends}, {});
        if (i == 1 && rank == round % 4) {
          throw std::runtime_error("in the middle");
        }
        for (const auto& work : works) work->wait(soon());
      }
    });
  }
}

TEST(LocalTransport, NothingIsCopiedAfterAWorkIsDestroyed) {
  // Long enough that the receiver gives up in the middle of the copy.
  const Ints source(2'000'000, 7);
  for (int round = 0; round < 8; ++round) {
    const LocalWorld world(2);
    Ints target(source.size());
    auto work = receive(*world.transport(1), 0, target);
    {
      const std::jthread sender([&] { send(*world.transport(0), 1, source); });
      std::this_thread::sleep_for(round * 1ms);
      work.reset();
      std::ranges::fill(target, 1);
    }
    EXPECT_EQ(std::ranges::count(target, 1), std::ssize(target)) << round;
  }
}

TEST(LocalTransport, ChecksItsArguments) {
  EXPECT_THROW(LocalWorld(0), InvalidArgument);
  const LocalWorld world(2);
  EXPECT_THROW(world.transport(2), InvalidArgument);
  Ints value(1);
  EXPECT_THROW(send(*world.transport(0), 0, value), InternalError);
  EXPECT_THROW(send(*world.transport(0), 1, {}), InternalError);
}

}  // namespace
}  // namespace ringweave::comm
