#include "ringweave/tensor/scalar_type.h"

#include <gtest/gtest.h>

#include "ringweave/tensor/for_type.h"
#include "ringweave/tensor/text.h"

namespace ringweave::tensor {
namespace {

TEST(ScalarType, MapsBothWays) {
  for (const std::string& word : element_type_names()) {
    const ElementType type = element_type_from_name(word);
    EXPECT_EQ(element_type(scalar_type(type)), type);
    EXPECT_EQ(element_bytes(type),
              static_cast<std::int64_t>(c10::elementSize(scalar_type(type))));
    EXPECT_EQ(accumulate_type(scalar_type(type)),
              scalar_type(ringweave::accumulate_type(type)));
  }
  EXPECT_EQ(element_type(at::kInt), std::nullopt);
  EXPECT_EQ(accumulate_type(at::kInt), at::kFloat);
}

TEST(ForType, CallsWithEachTypeAlone) {
  for (const std::string& word : element_type_names()) {
    const ElementType type = element_type_from_name(word);
    for_type(scalar_type(type), [&](auto number) {
      EXPECT_EQ(c10::CppTypeToScalarType<decltype(number)>::value,
                scalar_type(type));
    });
  }
  EXPECT_THROW(for_type(at::kInt, [](auto) {}), InternalError);
}

TEST(ShapeText, ListsTheSizes) {
  EXPECT_EQ(shape_text({2, 0, 7}), "(2, 0, 7)");
  EXPECT_EQ(shape_text({}), "()");
}

}  // namespace
}  // namespace ringweave::tensor
