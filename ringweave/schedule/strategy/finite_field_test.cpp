#include "ringweave/schedule/strategy/finite_field.h"

#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

TEST(PrimePower, OfNumbers) {
  EXPECT_EQ(prime_power(2), (PrimePower{2, 1}));
  EXPECT_EQ(prime_power(64), (PrimePower{2, 6}));
  EXPECT_EQ(prime_power(49), (PrimePower{7, 2}));
  EXPECT_EQ(prime_power(61), (PrimePower{61, 1}));
  for (const int n : {-4, 0, 1, 6, 12, 45, 100}) {
    EXPECT_FALSE(prime_power(n)) << n;
  }
}

TEST(FiniteField, ObeysTheAxioms) {
  for (const int n : {2, 3, 4, 5, 7, 8, 9, 16, 25, 27}) {
    const FiniteField field(n);
    const DigitGroup& plus = field.addition();
    ASSERT_EQ(plus.size(), n);
    for (int a = 0; a < n; ++a) {
      ASSERT_EQ(plus.add(a, 0), a);
      ASSERT_EQ(field.multiply(a, 1), a);
      ASSERT_EQ(field.multiply(a, 0), 0);
      for (int b = 0; b < n; ++b) {
        ASSERT_EQ(plus.subtract(plus.add(a, b), b), a);
        ASSERT_EQ(plus.add(a, b), plus.add(b, a));
        ASSERT_EQ(field.multiply(a, b), field.multiply(b, a));
        ASSERT_EQ(field.multiply(a, b) == 0, a == 0 || b == 0);
        for (int c = 0; c < n; ++c) {
          ASSERT_EQ(field.multiply(a, plus.add(b, c)),
                    plus.add(field.multiply(a, b), field.multiply(a, c)))
              << n << ": " << a << " " << b << " " << c;
        }
      }
    }
  }
}

TEST(FiniteField, OfManyElements) {
  for (const int n : {1021, 1024, 2187}) {
    const FiniteField field(n);
    int element = 3;
    for (int i = 0; i < 5; ++i) element = field.multiply(element, element);
    EXPECT_GT(element, 0);
    EXPECT_LT(element, n);
  }
}

TEST(FiniteField, RefusesOtherSizes) {
  EXPECT_THROW(FiniteField(6), NoSolution);
  EXPECT_THROW(FiniteField(1), InvalidArgument);
  EXPECT_THROW(FiniteField(-5), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::schedule
