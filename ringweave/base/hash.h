// A hash to compare configs, texts and topologies; not for security.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace ringweave {

/// FNV-1a of the bytes, continued from `state`.
inline std::uint64_t fnv1a(std::string_view bytes,
                           std::uint64_t state = 0xcbf29ce484222325u) {
  for (const char byte : bytes) {
    state ^= static_cast<unsigned char>(byte);
    state *= 0x100000001b3u;
  }
  return state;
}

/// The same kind of hash, eight bytes at a time: for much data.
inline std::uint64_t fnv1a_words(std::string_view bytes,
                                 std::uint64_t state = fnv1a("")) {
  for (; bytes.size() >= sizeof(std::uint64_t);
       bytes.remove_prefix(sizeof(std::uint64_t))) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof(word));
    state = (state ^ word) * 0x100000001b3u;
  }
  return fnv1a(bytes, state);
}

}  // namespace ringweave
