// Orders of many items that are computed when they are asked for.
#pragma once

#include <cstdint>

namespace ringweave::data {

/// Goes through 0 … size - 1 again and again, in another order each time: an
/// epoch. Any place of it is found in constant time and memory. A Feistel
/// network permutes the next power of four, and what lies beyond `size` is
/// permuted again until it does not (cycle walking; Black, Rogaway: Ciphers
/// with arbitrary finite domains, CT-RSA 2002).
class Order {
 public:
  /// size >= 1.
  Order(std::int64_t seed, std::int64_t size);

  /// The item at `place` >= 0, which is in epoch place / size.
  std::int64_t at(std::int64_t place) const;

 private:
  std::uint64_t permuted(std::uint64_t x, std::uint64_t epoch) const;

  std::uint64_t seed_;
  std::uint64_t size_;
  int half_bits_;  ///< of half a number that the network permutes
};

}  // namespace ringweave::data
