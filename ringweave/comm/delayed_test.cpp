#include "ringweave/comm/delayed.h"

#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/comm/test_messages.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// With this seed the first message from rank 0 to rank 1 takes more than half
/// of the longest delay.
constexpr std::uint64_t kSlowSeed = 0;

Transports slow(std::chrono::microseconds max_delay) {
  return delayed(LocalWorld(3).transports(), kSlowSeed, max_delay);
}

TEST(Delayed, DeliversEveryMessageInOrder) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    run_ranks(4,
              [](Rank rank, auto transport) { exchange(rank, *transport, 20); },
              {.seed = seed, .max_delay = 500us});
  }
}

TEST(Delayed, MessagesOfDifferentPairsOvertake) {
  std::set<std::vector<Rank>> orders;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    // Rank 0 polls three receives for which one was delivered.
    const Transports ranks = delayed(LocalWorld(4).transports(), seed, 60ms);
    std::vector<Ints> buffers(4, Ints(1));
    Works sends, receives(4);
    for (Rank from = 1; from < 4; ++from) {
      receives[from] = receive(*ranks[0], from, buffers[from]);
      EXPECT_EQ(buffers[from][0], -1) << "0xff until it is delivered";
    }
    const Ints value{7};
    for (Rank from = 1; from < 4; ++from) {
      sends.push_back(send(*ranks[from], 0, value));
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

TEST(Delayed, ReadsTheSourceAtDelivery) {
  for (const bool sender_first : {true, false}) {
    const Transports ranks = slow(300ms);
    Ints source{1}, target{0};
    Works works(2);
    const auto post = [&](bool sender) {
      works[sender] =
          sender ? send(*ranks[0], 1, source) : receive(*ranks[1], 0, target);
    };
    post(sender_first);
    post(!sender_first);
    EXPECT_EQ(target, Ints{-1});
    source = {2};
    works[0]->wait(soon());
    works[1]->wait(soon());
    EXPECT_EQ(target, Ints{2});
  }
}

TEST(Delayed, AFailureEndsTheWaitOfBothSides) {
  const auto start = Clock::now();
  const auto errors =
      rank_outcomes(3,
                    [](Rank rank, auto transport) {
                      Ints value(1);
                      if (rank == 0) send(*transport, 1, value)->wait(soon());
                      if (rank == 1)
                        receive(*transport, 0, value)->wait(soon());
                      std::this_thread::sleep_for(100ms);
                      throw std::runtime_error("two fell over");
                    },
                    {.seed = kSlowSeed, .max_delay = 40s});
  EXPECT_LT(Clock::now() - start, 10s);
  for (const Rank rank : {0, 1}) {
    EXPECT_EQ(facts(errors[rank]).first_failed, 2);
    EXPECT_EQ(facts(errors[rank]).peer, 1 - rank);
    EXPECT_EQ(facts(errors[rank]).cause, "rank 2 failed");
  }
}

TEST(Delayed, ADeadlineEndsTheWaitOfBothSides) {
  for (const bool sender_waits : {true, false}) {
    const Transports ranks = slow(40s);
    Ints value(1);
    const auto sent = send(*ranks[0], 1, value);
    const auto received = receive(*ranks[1], 0, value);
    try {
      (sender_waits ? sent : received)->wait(soon(50ms));
      FAIL() << "no error";
    } catch (const CommError& error) {
      EXPECT_EQ(error.facts().peer, sender_waits ? 1 : 0);
      EXPECT_EQ(error.facts().first_failed, error.facts().peer);
      EXPECT_THAT(error.what(), HasSubstr("no answer within 0."));
    }
  }
}

TEST(Delayed, AnAbandonedMessageIsDeliveredToItsPeer) {
  const Transports ranks = slow(40s);
  const Ints seven{7};
  Ints target{0};
  const auto received = receive(*ranks[1], 0, target);
  send(*ranks[0], 1, seven);  // dropped at once
  received->wait(soon());
  EXPECT_EQ(target, seven);
}

}  // namespace
}  // namespace ringweave::comm
