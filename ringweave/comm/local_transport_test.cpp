#include "ringweave/comm/local_transport.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

using Ints = std::vector<std::int64_t>;

std::span<const std::byte> out(const Ints& values) {
  return std::as_bytes(std::span(values));
}
std::span<std::byte> in(Ints& values) {
  return std::as_writable_bytes(std::span(values));
}
Clock::time_point soon(std::chrono::milliseconds time = 20s) {
  return Clock::now() + time;
}

/// The facts of the CommError in `error`; fails the test if there is none.
CommError::Facts facts(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
    ADD_FAILURE() << "no error";
  } catch (const CommError& comm_error) {
    return comm_error.facts();
  } catch (const std::exception& other) {
    ADD_FAILURE() << "not a CommError: " << other.what();
  }
  return {};
}

/// Every rank sends `messages` messages of different lengths to every other and
/// checks what it receives.
void exchange(Rank rank, Transport& transport, int messages) {
  const int ranks = transport.size();
  const auto content = [&](Rank from, Rank to, int i) {
    Ints values(1 + (from + 3 * to + i) % 50);
    std::iota(values.begin(), values.end(), from * 1000 + to * 100 + i);
    return values;
  };
  std::vector<Ints> sent, received;
  std::vector<std::unique_ptr<Work>> works;
  for (int i = 0; i < messages; ++i) {
    for (Rank peer = 0; peer < ranks; ++peer) {
      if (peer == rank) continue;
      sent.push_back(content(rank, peer, i));
      received.push_back(Ints(content(peer, rank, i).size()));
      works.push_back(transport.send(peer, out(sent.back())));
      works.push_back(transport.receive(peer, in(received.back())));
    }
  }
  for (auto& work : works) work->wait(soon());
  std::size_t next = 0;
  for (int i = 0; i < messages; ++i) {
    for (Rank peer = 0; peer < ranks; ++peer) {
      if (peer == rank) continue;
      ASSERT_EQ(received[next++], content(peer, rank, i));
    }
  }
}

TEST(LocalTransport, DeliversEveryMessageInOrder) {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    run_ranks(ranks, [](Rank rank, auto transport) {
      EXPECT_EQ(transport->rank(), rank);
      exchange(rank, *transport, 20);
    });
  }
}

TEST(LocalTransport, DeliversEveryMessageInOrderWithDelays) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    run_ranks(4,
              [](Rank rank, auto transport) { exchange(rank, *transport, 20); },
              {.seed = seed, .max_delay = 500us});
  }
}

TEST(LocalTransport, DelaysLetMessagesOfDifferentPairsOvertake) {
  std::set<std::vector<Rank>> orders;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    // Rank 0 polls three receives for which one was delivered.
    const LocalWorld world(4, {.seed = seed, .max_delay = 60ms});
    std::vector<Ints> buffers(4, Ints(1));
    std::vector<std::unique_ptr<Work>> sends, receives(4);
    for (Rank from = 1; from < 4; ++from) {
      receives[from] = world.transport(0)->receive(from, in(buffers[from]));
      EXPECT_EQ(buffers[from][0], -1) << "0xff until it is delivered";
    }
    const Ints value{7};
    for (Rank from = 1; from < 4; ++from) {
      sends.push_back(world.transport(from)->send(0, out(value)));
    }
    std::mutex mutex;
    std::vector<Rank> order;
    {
      std::vector<std::jthread> threads;
      for (Rank from = 1; from < 4; ++from) {
        threads.emplace_back([&, from] {
          sends[from - 1]->wait(soon());
          const std::lock_guard lock(mutex);
          order.push_back(from);
        });
      }
    }
    for (Rank from = 1; from < 4; ++from) {
      receives[from]->wait(soon());
      EXPECT_EQ(buffers[from][0], 7);
    }
    orders.insert(order);
  }
  EXPECT_GE(orders.size(), 2u);
}

TEST(LocalTransport, OtherLengthIsAnErrorOnBothSides) {
  for (const bool sender_first : {true, false}) {
    const auto errors = rank_outcomes(2, [&](Rank rank, auto transport) {
      if ((rank == 0) != sender_first) std::this_thread::sleep_for(20ms);
      Ints values(rank == 0 ? 3 : 2);
      auto work = rank == 0 ? transport->send(1, out(values))
                            : transport->receive(0, in(values));
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
  auto work = transport->receive(0, in(value));
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
    transport->receive((rank + 1) % 4, in(value))->wait(soon());
  });
  EXPECT_LT(Clock::now() - start, 10s);
  for (Rank rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(facts(errors[rank]).first_failed, 4);
    EXPECT_EQ(facts(errors[rank]).peer, (rank + 1) % 4);
  }
}

TEST(LocalTransport, RethrowsWhatFailedFirst) {
  const auto ring = [](Rank rank, auto transport) {
    Ints value(1);
    if (rank == 2) throw std::runtime_error("two fell over");
    transport->receive((rank + 1) % 4, in(value))->wait(soon());
  };
  for (int i = 0; i < 20; ++i) {
    try {
      run_ranks(4, ring);
      FAIL() << "no error";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "two fell over");
    }
  }
}

TEST(LocalTransport, WaitingForARankThatHasEndedIsAnError) {
  const auto errors = rank_outcomes(2, [](Rank rank, auto transport) {
    Ints value(1);
    if (rank == 0) transport->receive(1, in(value))->wait(soon());
  });
  EXPECT_EQ(facts(errors[0]).cause, "rank 1 has ended");
  EXPECT_EQ(errors[1], nullptr);
}

TEST(LocalTransport, KilledRankFailsTheOthersAtOnce) {
  const auto start = Clock::now();
  for (std::int64_t operation = 0; operation < 24; ++operation) {
    const auto run = [](Rank rank, auto transport) {
      exchange(rank, *transport, 2);
    };
    const FaultInjection faults{.kill = {{.rank = 1, .operation = operation}}};
    EXPECT_THROW(run_ranks(4, run, faults), InjectedFault);
    const auto errors = rank_outcomes(4, run, faults);
    for (const Rank rank : {0, 2, 3}) {
      // Later it may have served some of the others already.
      if (operation < 6 || errors[rank]) {
        EXPECT_EQ(facts(errors[rank]).first_failed, 1) << operation;
      }
    }
  }
  EXPECT_LT(Clock::now() - start, 10s);
}

TEST(LocalTransport, StalledRankIsFoundBehindThoseThatWaitForIt) {
  // 0 waits for 1, 1 for 2, and 2 sleeps. Rank 0 is the first to time out.
  const auto errors =
      rank_outcomes(3,
                    [](Rank rank, auto transport) {
                      Ints value(1);
                      if (rank == 2) {
                        transport->send(1, out(value))->wait(soon());
                      } else {
                        transport->receive(rank + 1, in(value))
                            ->wait(soon(rank == 0 ? 200ms : 20s));
                      }
                    },
                    {.stall = {{.rank = 2, .operation = 0}}});
  EXPECT_EQ(facts(errors[0]).peer, 1);
  EXPECT_EQ(facts(errors[0]).first_failed, 2);
  EXPECT_EQ(facts(errors[1]).peer, 2);
  EXPECT_EQ(facts(errors[1]).first_failed, 2);
  EXPECT_THROW(std::rethrow_exception(errors[2]), InjectedFault);
}

TEST(LocalTransport, AStallShowsAsTheSurvivorsError) {
  EXPECT_THROW(run_ranks(2,
                         [](Rank rank, auto transport) {
                           Ints value(1);
                           if (rank == 1) {
                             transport->send(0, out(value))->wait(soon());
                           } else {
                             transport->receive(1, in(value))->wait(soon(50ms));
                           }
                         },
                         {.stall = {{.rank = 1, .operation = 0}}}),
               CommError);
}

TEST(LocalTransport, AbandonedMessagesBreakThePair) {
  const LocalWorld world(2);
  Ints value(1);
  world.transport(0)->send(1, out(value));  // dropped at once
  auto late = world.transport(1)->receive(0, in(value));
  try {
    late->wait(soon());
    FAIL() << "no error";
  } catch (const CommError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 gave up"));
  }
  // The other direction still works.
  auto receive = world.transport(0)->receive(1, in(value));
  const Ints seven{7};
  auto send = world.transport(1)->send(0, out(seven));
  receive->wait(soon());
  send->wait(soon());
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
            std::vector<std::unique_ptr<Work>> works;
            for (int hop = 1; hop < 4; ++hop) {
              const Rank to = (rank + hop) % 4, from = (rank - hop + 4) % 4;
              works.push_back(
                  transport->receive(from, in(buffers[2 * hop - 1])));
              works.push_back(transport->send(to, out(buffers[2 * hop - 2])));
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

TEST(LocalTransport, NothingIsCopiedAfterAWorkIsDestroyed) {
  // Long enough that the receiver gives up in the middle of the copy.
  const Ints source(2'000'000, 7);
  for (int round = 0; round < 8; ++round) {
    const LocalWorld world(2);
    Ints target(source.size());
    auto receive = world.transport(1)->receive(0, in(target));
    {
      const std::jthread sender(
          [&] { world.transport(0)->send(1, out(source)); });
      std::this_thread::sleep_for(round * 1ms);
      receive.reset();
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
  EXPECT_THROW(world.transport(0)->send(0, out(value)), InternalError);
  EXPECT_THROW(world.transport(0)->send(1, {}), InternalError);
}

}  // namespace
}  // namespace ringweave::comm
