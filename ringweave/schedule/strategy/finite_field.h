// Arithmetic in the finite field of n elements, n a prime power.
//
// Element e of GF(p^k) is the polynomial whose coefficients are the digits of e
// in base p; so 0 and 1 are zero and one, and addition is digit by digit.
#pragma once

#include <optional>
#include <vector>

namespace ringweave::schedule {

/// n = prime^exponent.
struct PrimePower {
  int prime = 2;
  int exponent = 1;
  friend bool operator==(const PrimePower&, const PrimePower&) = default;
};

/// nullopt unless n >= 2 is a power of a prime.
std::optional<PrimePower> prime_power(int n);

/// Addition of digits in base `base`, without carry: the additive group of
/// GF(base^digits), or Z_base for one digit. O(1) in time for one digit and
/// for base 2, else O(digits).
class DigitGroup {
 public:
  DigitGroup(int base, int digits);

  int size() const { return size_; }
  /// Both want 0 <= a, b < size().
  int add(int a, int b) const;
  int subtract(int a, int b) const;

 private:
  int base_;
  int digits_;
  int size_;
};

class FiniteField {
 public:
  /// Throws NoSolution unless n is a prime power, InvalidArgument if n < 2 or
  /// n > 2^20.
  explicit FiniteField(int n);

  const DigitGroup& addition() const { return addition_; }
  int multiply(int a, int b) const;

 private:
  FiniteField(int n, PrimePower power);

  DigitGroup addition_;
  // A generator's powers, twice over, and the inverse of that: a·b is
  // power_[log_[a] + log_[b]].
  std::vector<int> power_;
  std::vector<int> log_;
};

}  // namespace ringweave::schedule
