#include "ringweave/base/parallel.h"

#include <atomic>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

namespace ringweave {
namespace {

TEST(ForEachOnAllCores, CallsEachOnce) {
  for (const int count : {0, 1, 2, 1000}) {
    std::vector<int> calls(count);
    for_each_on_all_cores(count, [&](int i) { ++calls[i]; });
    EXPECT_EQ(calls, std::vector<int>(count, 1));
  }
}

TEST(ForEachOnAllCores, ThrowsWhatATaskThrew) {
  std::atomic<int> calls = 0;
  EXPECT_THROW(for_each_on_all_cores(1'000'000,
                                     [&](int) {
                                       ++calls;
                                       throw std::runtime_error("no");
                                     }),
               std::runtime_error);
  EXPECT_LT(calls, 1'000'000);
}

}  // namespace
}  // namespace ringweave
