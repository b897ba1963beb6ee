// A hash to compare configs, texts and topologies; not for security.
#pragma once

#include <cstdint>
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

}  // namespace ringweave
