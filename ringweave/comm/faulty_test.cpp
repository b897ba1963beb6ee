#include "ringweave/comm/faulty.h"

#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/comm/test_messages.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;

TEST(Faulty, KilledRankFailsTheOthersAtOnce) {
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

TEST(Faulty, StalledRankIsFoundBehindThoseThatWaitForIt) {
  // 0 waits for 1, 1 for 2, and 2 sleeps. Rank 0 is the first to time out.
  const auto errors =
      rank_outcomes(3,
                    [](Rank rank, auto transport) {
                      Ints value(1);
                      if (rank == 2) {
                        send(*transport, 1, value)->wait(soon());
                      } else {
                        receive(*transport, rank + 1, value)
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

/// What rank 0 gets done before it is killed at `operation`: posts of a batch
/// of two, then a wait for each.
int done_before_the_kill(std::int64_t operation) {
  const Transports ranks =
      faulty(LocalWorld(2).transports(),
             {.kill = {{.rank = 0, .operation = operation}}});
  Ints value(1), theirs(1);
  const Receive in{.from = 1, .buffer = borrowed(std::span(value))};
  const Send out{.to = 1, .buffer = borrowed(std::span(value))};
  const auto received = receive(*ranks[1], 0, theirs);
  const auto sent = send(*ranks[1], 0, theirs);
  int done = 0;
  try {
    const Works works = ranks[0]->post({{&in, 1}, {&out, 1}}, {});
    done = 2;
    works[0]->wait(soon());
    ++done;
    works[1]->block({}, soon());
    ++done;
  } catch (const InjectedFault& fault) {
    EXPECT_FALSE(fault.stalled());
    EXPECT_EQ(ranks[1]->first_failed(), 0);
  }
  // The first message of the batch went out, the second did not.
  if (operation == 1) {
    EXPECT_NO_THROW(sent->wait(soon()));
    EXPECT_THROW(received->wait(soon()), CommError);
  }
  return done;
}

TEST(Faulty, CountsMessagesOfABatchAndWaits) {
  EXPECT_EQ(done_before_the_kill(0), 0);
  EXPECT_EQ(done_before_the_kill(1), 0);
  EXPECT_EQ(done_before_the_kill(2), 2);
  EXPECT_EQ(done_before_the_kill(3), 3);
  EXPECT_EQ(done_before_the_kill(4), 4);
}

}  // namespace
}  // namespace ringweave::comm
