#include "ringweave/base/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave {
namespace {

TEST(Memory, OnlyMoreThanThereIsIsRefused) {
  EXPECT_NO_THROW(require_memory(0, "[train] got a model"));
  EXPECT_NO_THROW(require_memory(1e6, "[train] got a model"));
  try {
    require_memory(1e30, "[train] got a model");
    ADD_FAILURE() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(),
                testing::StartsWith("[train] got a model that takes at least "
                                    "1e+21 GB; want at most "));
  }
}

}  // namespace
}  // namespace ringweave
