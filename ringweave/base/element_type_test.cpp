#include "ringweave/base/element_type.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(ElementType, NamesGoBothWays) {
  EXPECT_THAT(element_type_names(),
              ElementsAre("float64", "float32", "bfloat16", "float16"));
  for (const std::string& word : element_type_names()) {
    EXPECT_EQ(name(element_type_from_name(word)), word);
  }
  EXPECT_THAT(
      [] { element_type_from_name("bfloat61"); },
      ThrowsMessage<InvalidArgument>(HasSubstr(
          "[type] got \"bfloat61\"; want one of \"bfloat16\", \"float")));
}

TEST(ElementType, ModelsComputeInAllButFloat16) {
  EXPECT_THAT(model_type_names(),
              ElementsAre("float64", "float32", "bfloat16"));
  for (const std::string& word : model_type_names()) {
    EXPECT_EQ(name(model_type_from_name(word)), word);
  }
  EXPECT_THAT([] { model_type_from_name("float16"); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[type] got \"float16\"; want one of")));
}

TEST(ElementType, SumsAreAtLeastFloat32) {
  EXPECT_EQ(element_bytes(ElementType::float64), 8);
  EXPECT_EQ(element_bytes(ElementType::float32), 4);
  EXPECT_EQ(element_bytes(ElementType::bfloat16), 2);
  EXPECT_EQ(element_bytes(ElementType::float16), 2);
  EXPECT_EQ(accumulate_type(ElementType::float64), ElementType::float64);
  EXPECT_EQ(accumulate_type(ElementType::float32), ElementType::float32);
  EXPECT_EQ(accumulate_type(ElementType::bfloat16), ElementType::float32);
  EXPECT_EQ(accumulate_type(ElementType::float16), ElementType::float32);
}

}  // namespace
}  // namespace ringweave
