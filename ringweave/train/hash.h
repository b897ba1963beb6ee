// A hash to compare configs and texts over ranks; not for security.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ringweave::train {

/// FNV-1a of the bytes, continued from `state`.
inline std::uint64_t fnv1a(std::string_view bytes,
                           std::uint64_t state = 0xcbf29ce484222325u) {
  for (const char byte : bytes) {
    state ^= static_cast<unsigned char>(byte);
    state *= 0x100000001b3u;
  }
  return state;
}

/// splitmix64: equal inputs give equal outputs, near inputs unrelated ones.
inline std::uint64_t scramble(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace ringweave::train
