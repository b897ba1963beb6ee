#include "ringweave/data/order.h"

#include <bit>

#include "ringweave/base/error.h"
#include "ringweave/base/splitmix.h"

namespace ringweave::data {

Order::Order(std::int64_t seed, std::int64_t size)
    : seed_(static_cast<std::uint64_t>(seed)),
      size_(static_cast<std::uint64_t>(size)) {
  ensure(size >= 1, "an order of {} items", size);
  half_bits_ = (std::bit_width(size_ - 1) + 1) / 2;
}

std::int64_t Order::at(std::int64_t place) const {
  const auto number = static_cast<std::uint64_t>(place);
  const std::uint64_t epoch = number / size_;
  std::uint64_t x = number % size_;
  do {
    x = permuted(x, epoch);
  } while (x >= size_);
  return static_cast<std::int64_t>(x);
}

std::uint64_t Order::permuted(std::uint64_t x, std::uint64_t epoch) const {
  constexpr std::uint64_t kRounds = 6;
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = x >> half_bits_, right = x & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t key =
        splitmix64(splitmix64(splitmix64(seed_) ^ epoch) ^ round);
    const std::uint64_t next = left ^ (splitmix64(key ^ right) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

}  // namespace ringweave::data
