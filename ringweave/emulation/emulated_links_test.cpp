#include "ringweave/emulation/emulated_links.h"

#include <chrono>
#include <numeric>
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/comm/test_messages.h"
#include "ringweave/emulation/test_topology.h"

namespace ringweave::emulation {
namespace {

using namespace std::chrono_literals;
using comm::Ints;
using testing::HasSubstr;

comm::Decorator on(topology::Topology links) {
  return [links = std::move(links)](comm::Transports ranks) {
    return emulated_links(std::move(ranks), links);
  };
}

/// Sends 200 bytes to the next rank, and receives as many.
void shift(Rank rank, comm::Transport& transport) {
  const Ints mine(25, rank);
  Ints theirs(25);
  const auto out = send(transport, (rank + 1) % 4, mine);
  const auto in = receive(transport, (rank + 3) % 4, theirs);
  out->wait(comm::soon());
  in->wait(comm::soon());
  EXPECT_EQ(theirs, Ints(25, (rank + 3) % 4));
}

TEST(EmulatedLinks, RanksReadTheModelsClock) {
  for (int i = 0; i < 20; ++i) {  // whatever the threads do
    comm::run_ranks(
        4,
        [](Rank rank, auto transport) {
          shift(rank, *transport);
          EXPECT_DOUBLE_EQ(transport->seconds(), 3);
        },
        {}, on(star(4)));
  }
}

TEST(EmulatedLinks, DelaysDoNotChangeTheClock) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    comm::run_ranks(
        4,
        [](Rank rank, auto transport) {
          shift(rank, *transport);
          EXPECT_DOUBLE_EQ(transport->seconds(), 3);
        },
        {.seed = seed, .max_delay = 2ms}, on(star(4)));
  }
}

TEST(EmulatedLinks, DeliversEveryMessageInOrder) {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    comm::run_ranks(
        ranks,
        [](Rank rank, auto transport) { comm::exchange(rank, *transport, 10); },
        {}, on(star(ranks)));
  }
}

TEST(EmulatedLinks, NothingArrivesWhileARankComputes) {
  comm::run_ranks(
      3,
      [](Rank rank, auto transport) {
        Ints value(1, rank);
        if (rank == 1) {
          auto work = receive(*transport, 0, value);
          EXPECT_EQ(value, Ints{-1}) << "0xff until it is there";
          work->wait(comm::soon());
          EXPECT_EQ(value, Ints{0});
        } else if (rank == 0) {
          send(*transport, 1, value)->wait(comm::soon());
        } else {
          std::this_thread::sleep_for(50ms);
          EXPECT_EQ(transport->seconds(), 0);
        }
      },
      {}, on(star(3)));
}

TEST(EmulatedLinks, ARankThatEndsLetsTimePass) {
  comm::run_ranks(
      3,
      [](Rank rank, auto transport) {
        if (rank == 2) return;
        comm::Communicator communicator(std::move(transport));
        const device::Buffer bytes = device::allocate_buffer(100);
        const auto work = rank == 0 ? communicator.send(1, bytes)
                                    : communicator.receive(0, bytes);
        communicator.wait(*work, "test");
      },
      {}, on(star(3)));
}

TEST(EmulatedLinks, TimeOutsAndDeathsStillEndWaits) {
  const auto outcomes = comm::rank_outcomes(
      2,
      [](Rank rank, auto transport) {
        Ints value(1);
        if (rank == 0) throw Error("dead");
        receive(*transport, 0, value)->wait(comm::soon());
      },
      {}, on(star(2)));
  EXPECT_THROW(std::rethrow_exception(outcomes[1]), CommError);
}

TEST(EmulatedLinks, ADeathEndsTheWaitForWhatIsUnderWay) {
  const auto start = comm::Clock::now();
  const auto outcomes = comm::rank_outcomes(
      3,
      [](Rank rank, auto transport) {
        Ints value(1);
        if (rank == 0) send(*transport, 1, value)->wait(comm::soon());
        if (rank == 1) receive(*transport, 0, value)->wait(comm::soon());
        std::this_thread::sleep_for(50ms);  // so that no time passes
        throw Error("dead");
      },
      {}, on(star(3)));
  EXPECT_LT(comm::Clock::now() - start, 10s);
  for (const Rank rank : {0, 1}) {
    EXPECT_EQ(comm::facts(outcomes[rank]).first_failed, 2);
  }
}

TEST(EmulatedLinks, TimeOutsAreRealTime) {
  const comm::Transports ranks =
      emulated_links(comm::LocalWorld(3).transports(), star(3));
  const Ints source(1);
  Ints target(1);
  const auto sent = send(*ranks[0], 1, source);
  const auto received = receive(*ranks[1], 0, target);
  try {
    received->wait(comm::soon(50ms));  // rank 2 computes for ever
    FAIL() << "no error";
  } catch (const CommError& error) {
    EXPECT_THAT(error.what(), HasSubstr("no answer within 0."));
    EXPECT_EQ(error.facts().peer, 0);
  }
  EXPECT_EQ(ranks[2]->seconds(), 0);
}

TEST(EmulatedLinks, WantsAsManyRanksAsTheTopologyHas) {
  EXPECT_THROW(emulated_links(comm::LocalWorld(3).transports(), star(2)),
               InvalidArgument);
  EXPECT_THROW(comm::run_ranks(
                   3, [](Rank, auto) {}, {}, on(star(2))),
               InvalidArgument);
}

}  // namespace
}  // namespace ringweave::emulation
