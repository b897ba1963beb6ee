// Where in a rank's memory the content of its slots lies.
//
// What a rank computes in one step should be neighbours in memory, so that few
// kernel calls do it. So slots have no memory of their own: those that are
// filled and emptied together form a bank, as large as its slots together, in
// which their content is packed side by side, in an order that the caller
// gives. What is retained lies in a memory apart, which outlives the pass.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/schedule/program/tenancy.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// The memories of a rank's pass, one of each for every payload.
enum class Memory : std::uint8_t {
  input,    ///< the rank's own tokens, as the caller has them
  packed,   ///< the rank's own block, strand by strand, as it travels
  scratch,  ///< of one pass
  kept      ///< from forward to backward
};

/// Units of one memory.
struct Place {
  Memory memory = Memory::scratch;
  std::int64_t begin = 0;
  std::int64_t size = 0;

  std::int64_t end() const { return begin + size; }
  bool contains(const Place& other) const {
    return memory == other.memory && begin <= other.begin &&
           other.end() <= end();
  }
  friend auto operator<=>(const Place&, const Place&) = default;
};

/// What decides the order of parts that are placed together: smaller keys
/// first.
using PlacementKey = std::array<std::int64_t, 4>;

struct PlacementOrder {
  /// Whether a part and the next one lie side by side on this rank.
  std::function<bool(const BlockId&)> side_by_side;
  /// Of a part that the rank computes. Parts that it only passes on come last.
  std::function<PlacementKey(const BlockId&)> key;
};

struct Placement {
  /// [tenancy][tenant]
  std::vector<std::vector<Place>> places;
  std::map<Payload, std::int64_t> scratch_size;
  std::int64_t kept_size = 0;
};

/// `kept`: places that a former pass gave to what it retained, by block; empty
/// in forward, which gives them. Scratch is as large as slot_sizes() says in
/// all.
Placement place(const Schedule& part, Rank rank, const Tenancies& tenancies,
                const PlacementOrder& order,
                const std::map<BlockId, Place>& kept);

}  // namespace ringweave::schedule
