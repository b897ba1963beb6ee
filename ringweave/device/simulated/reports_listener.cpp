// Linked into a test program: a test fails if it leaves reports.
#include <gtest/gtest.h>

#include "ringweave/device/simulated/caller_streams.h"

namespace ringweave::device {
namespace {

class Listener final : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { simulated::settle(); }
  void OnTestEnd(const testing::TestInfo&) override {
    EXPECT_TRUE(all_ordered());
  }
};

const bool kListens = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new Listener);
  return true;
}();

}  // namespace
}  // namespace ringweave::device
