#include "ringweave/comm/first_fault.h"

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::comm {
namespace {

/// What three ranks get, of which `faults` are told.
std::vector<std::string> outcomes(const std::vector<std::string>& faults) {
  std::vector<std::string> got(faults.size());
  const int ranks = static_cast<int>(faults.size());
  rank_outcomes(ranks, [&](Rank rank, std::shared_ptr<Transport> transport) {
    Communicator communicator(std::move(transport));
    got[rank] = first_fault(faults[rank], communicator);
    // Ends at once: nobody may need this rank any more.
    if (!got[rank].empty()) throw Error(got[rank]);
  });
  return got;
}

TEST(FirstFault, AllRanksGetTheSame) {
  using Texts = std::vector<std::string>;
  for (int repeat = 0; repeat < 20; ++repeat) {
    EXPECT_EQ(outcomes({"", "", ""}), Texts(3, ""));
    EXPECT_EQ(outcomes({"", "b", "c"}), Texts(3, "rank 1: b"));
    EXPECT_EQ(outcomes({"a", "a", "a"}), Texts(3, "a"));
  }
  EXPECT_EQ(outcomes({"a"}), Texts(1, "a"));
}

}  // namespace
}  // namespace ringweave::comm
