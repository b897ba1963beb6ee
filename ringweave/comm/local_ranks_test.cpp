#include "ringweave/comm/local_ranks.h"

#include <stdexcept>

#include <gtest/gtest.h>

#include "ringweave/comm/test_messages.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;

TEST(LocalRanks, RethrowsWhatFailedFirst) {
  const auto ring = [](Rank rank, auto transport) {
    Ints value(1);
    if (rank == 2) throw std::runtime_error("two fell over");
    receive(*transport, (rank + 1) % 4, value)->wait(soon());
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

TEST(LocalRanks, AStallShowsAsTheSurvivorsError) {
  EXPECT_THROW(run_ranks(2,
                         [](Rank rank, auto transport) {
                           Ints value(1);
                           if (rank == 1) {
                             send(*transport, 0, value)->wait(soon());
                           } else {
                             receive(*transport, 1, value)->wait(soon(50ms));
                           }
                         },
                         {.stall = {{.rank = 1, .operation = 0}}}),
               CommError);
}

TEST(LocalRanks, WrapsAllTransportsAtOnce) {
  int wrapped = 0;
  run_ranks(
      3, [](Rank rank, auto transport) { exchange(rank, *transport, 2); },
      {.seed = 1, .max_delay = 100us},
      [&](Transports ranks) {
        ++wrapped;
        EXPECT_EQ(ranks.size(), 3u);
        return ranks;
      });
  EXPECT_EQ(wrapped, 1);
}

}  // namespace
}  // namespace ringweave::comm
