#include "ringweave/tensor/allocated.h"

#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace ringweave::tensor {
namespace {

TEST(Allocated, CountsThisThreadsTensors) {
  Allocated allocated;
  at::Tensor kept = at::empty({1000}, at::kFloat);
  EXPECT_EQ(allocated.now(), 4000);
  { const at::Tensor gone = at::empty({1000}, at::kDouble); }
  EXPECT_EQ(allocated.now(), 4000);
  EXPECT_EQ(allocated.peak(), 12000);
  allocated.reset_peak();
  EXPECT_EQ(allocated.peak(), 4000);
  std::thread([] { const at::Tensor other = at::empty({500}); }).join();
  EXPECT_EQ(allocated.peak(), 4000);
  kept.reset();
  EXPECT_EQ(allocated.now(), 0);
}

}  // namespace
}  // namespace ringweave::tensor
