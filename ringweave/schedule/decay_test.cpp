#include "ringweave/schedule/decay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Decay, NamesGoBothWays) {
  EXPECT_EQ(name(Decay::per_key), "per_key");
  for (const std::string& word : decay_names()) {
    EXPECT_EQ(name(decay_from_name(word)), word);
  }
  EXPECT_THAT([] { decay_from_name("per_kye"); },
              ThrowsMessage<InvalidArgument>(HasSubstr(
                  "[decay] got \"per_kye\"; want one of \"per_key\", ")));
}

TEST(Decay, NumbersTravelOnlyForGates) {
  EXPECT_EQ(summary_decays(Decay::none, 16), 0);
  EXPECT_EQ(summary_decays(Decay::constant, 16), 0);
  EXPECT_EQ(summary_decays(Decay::per_head, 16), 1);
  EXPECT_EQ(summary_decays(Decay::per_key, 16), 16);
}

}  // namespace
}  // namespace ringweave::schedule
