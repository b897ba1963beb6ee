#include "ringweave/schedule/strategy/finite_field.h"

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

constexpr int kMaxElements = 1 << 20;

PrimePower checked_power(int n) {
  require(n >= 2 && n <= kMaxElements,
          "[finite_field] got {} elements; want 2 … {}", n, kMaxElements);
  const std::optional<PrimePower> power = prime_power(n);
  if (!power) {
    throw NoSolution(fmt::format(
        "[finite_field] got {} elements; want a power of a prime", n));
  }
  return *power;
}

// digit by digit `factor` times `a`, in base `base`.
int scale(int a, int factor, int base) {
  int result = 0;
  for (int place = 1; a > 0; a /= base, place *= base) {
    result += place * ((a % base) * factor % base);
  }
  return result;
}

}  // namespace

std::optional<PrimePower> prime_power(int n) {
  if (n < 2) return std::nullopt;
  int prime = 2;
  while (prime * prime <= n && n % prime != 0) ++prime;
  if (n % prime != 0) prime = n;
  int exponent = 0;
  for (; n % prime == 0; n /= prime) ++exponent;
  if (n != 1) return std::nullopt;
  return PrimePower{prime, exponent};
}

DigitGroup::DigitGroup(int base, int digits)
    : base_(base), digits_(digits), size_(1) {
  for (int i = 0; i < digits; ++i) size_ *= base;
}

int DigitGroup::add(int a, int b) const {
  if (digits_ == 1) return (a + b) % base_;
  if (base_ == 2) return a ^ b;
  int sum = 0;
  for (int place = 1; place < size_; place *= base_) {
    sum += place * ((a / place + b / place) % base_);
  }
  return sum;
}

int DigitGroup::subtract(int a, int b) const {
  if (digits_ == 1) return (a - b + base_) % base_;
  if (base_ == 2) return a ^ b;
  int difference = 0;
  for (int place = 1; place < size_; place *= base_) {
    difference += place * ((a / place + base_ - b / place % base_) % base_);
  }
  return difference;
}

FiniteField::FiniteField(int n) : FiniteField(n, checked_power(n)) {}

FiniteField::FiniteField(int n, PrimePower power)
    : addition_(power.prime, power.exponent), power_(2 * (n - 1)), log_(n) {
  // Which element plays the part of x^k (of x, if k = 1) is found by trial: one
  // for which the powers of x run through all non-zero elements. That makes the
  // polynomial primitive, and x a generator.
  const int p = power.prime;
  const int top = n / p;  // the place of the highest digit
  for (int reduced = 1; reduced < n; ++reduced) {
    int element = 1;
    int order = 0;
    do {
      power_[order] = power_[order + n - 1] = element;
      log_[element] = order;
      ++order;
      const int carry = power.exponent == 1 ? element : element / top;
      const int shifted = power.exponent == 1 ? 0 : element % top * p;
      const int folded =
          power.exponent == 1
              ? static_cast<int>(static_cast<long long>(reduced) * carry % p)
              : scale(reduced, carry, p);
      element = addition_.add(shifted, folded);
    } while (element != 1 && element != 0 && order < n - 1);
    if (element == 1 && order == n - 1) return;
  }
  ensure(false, "no generator of GF({})", n);
}

int FiniteField::multiply(int a, int b) const {
  return a == 0 || b == 0 ? 0 : power_[log_[a] + log_[b]];
}

}  // namespace ringweave::schedule
