#include "ringweave/comm/subgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::comm {
namespace {

TEST(Subgroup, CollectivesAreOfItsMembersAlone) {
  run_ranks(5, [](Rank rank, std::shared_ptr<Transport> transport) {
    Communicator whole(transport);
    const std::vector<Rank> members =
        rank % 2 == 0 ? std::vector<Rank>{0, 2, 4} : std::vector<Rank>{1, 3};
    Communicator part(subgroup(*transport, members));
    ASSERT_EQ(part.size(), std::ssize(members));
    ASSERT_EQ(members[part.rank()], rank);
    for (int round = 0; round < 3; ++round) {
      std::vector<double> values = {1.0 * rank, 1.0, 2.0, 3.0};
      part.all_reduce_sum(values);
      EXPECT_EQ(values[0], rank % 2 == 0 ? 6 : 4);
      EXPECT_EQ(values[3], 3.0 * part.size());
      double all = rank;
      whole.all_reduce_sum(std::span(&all, 1));
      EXPECT_EQ(all, 10);
    }
    EXPECT_GT(part.traffic().bytes(), 0);
  });
}

TEST(Subgroup, AFailedMemberIsNamedAsInTheWhole) {
  // Rank 2 has in its group the number that the failed rank has in the whole.
  const auto outcomes =
      rank_outcomes(4, [](Rank rank, std::shared_ptr<Transport> transport) {
        const TimeOuts time_outs = {.start = std::chrono::seconds(20),
                                    .step = std::chrono::seconds(20)};
        Communicator whole(transport, time_outs);
        Communicator part(
            subgroup(*transport, rank < 2 ? std::vector<Rank>{0, 1}
                                          : std::vector<Rank>{2, 3}),
            time_outs);
        if (rank == 0) throw Error("gone");
        if (rank != 1) part.barrier();
        if (rank == 2) whole.barrier();
        if (rank == 1) part.barrier();
      });
  for (const Rank rank : {1, 2}) {
    try {
      std::rethrow_exception(outcomes[rank]);
    } catch (const CommError& error) {
      EXPECT_EQ(error.facts().rank, rank);
      EXPECT_EQ(error.facts().first_failed, 0);
    }
  }
}

}  // namespace
}  // namespace ringweave::comm
