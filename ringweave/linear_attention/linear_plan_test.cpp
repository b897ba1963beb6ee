#include "ringweave/linear_attention/linear_plan.h"

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/linear_attention/problems.h"

namespace ringweave::linear_attention {
namespace {

TEST(Transport, NamesAreReadBack) {
  for (const std::string& text : kTransports) {
    EXPECT_EQ(name(transport_from_name(text)), text);
  }
  EXPECT_EQ(transport_from_name("chain").kind, Transport::Kind::chain);
  EXPECT_THROW(transport_from_name("ring"), InvalidArgument);
  EXPECT_THROW(transport_from_name("all_gather:rings"), InvalidArgument);
}

TEST(LinearPlan, RejectsWhatItCannotHonour) {
  const Transport chain = transport_from_name("chain");
  const Layout layout = Layout::contiguous(9, 3);
  const Mask causal = Mask::causal();
  EXPECT_THROW(make_linear_plan({chain, Layout::striped(9, 3), causal}, 0),
               InvalidArgument);
  EXPECT_THROW(make_linear_plan({chain, layout, causal}, 3), InvalidArgument);
  EXPECT_THROW(make_linear_plan({chain, layout, causal.with_window({3, 0})}, 0),
               InvalidArgument);
  EXPECT_THROW(
      make_linear_plan({chain, layout, Mask::full().with_documents({0, 9})}, 0),
      InvalidArgument);
  EXPECT_THROW(
      make_linear_plan({chain, layout, causal.with_documents({0, 8})}, 0),
      InvalidArgument);
}

}  // namespace
}  // namespace ringweave::linear_attention
