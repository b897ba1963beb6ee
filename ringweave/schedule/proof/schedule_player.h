// What both validators need to play a schedule: checks of its form, its events
// in order, and the state of the slots.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// "block (owner 0, strand 1, part 0)".
std::string describe(const BlockId& block);

/// What an error is about. A formatter below makes its text, which is slow,
/// only when there is one: "transfer of kv of block (…) from rank 0 to rank 2,
/// steps 3 … 4", "tile of block (…) on rank 2, step 4", "retained block (…) on
/// rank 1".
using Subject = std::variant<const Transfer*, const Tile*, const Retained*>;
std::string describe(Subject subject);

/// Numbers all block parts of a demand 0, 1, …
class BlockIndex {
 public:
  BlockIndex(const Demand& demand, int strands);

  int count() const { return count_; }
  bool contains(const BlockId& block) const;
  /// Wants contains(block).
  int operator[](const BlockId& block) const;
  BlockId id(int index) const;

 private:
  int strands_;
  int count_ = 0;
  std::vector<int> first_;  // of each owner, and count_
  std::vector<int> parts_;
};

/// Throws InvalidArgument unless every number of the schedule is in range, its
/// block list is sorted and right, and every named part is listed.
void check_form(const Schedule& schedule, const Demand& demand, int strands,
                const BlockIndex& index);

/// Indices into transfers and tiles of what happens in one step.
struct StepEvents {
  std::vector<int> waits;
  std::vector<int> posts;
  std::vector<int> tiles;
};

/// By step; steps without events are left out.
std::map<int, StepEvents> events_by_step(const Schedule& schedule);

/// A set of ranks.
class RankSet {
 public:
  explicit RankSet(int ranks = 0) : words_((ranks + 63) / 64) {}

  bool contains(Rank rank) const {
    return (words_[rank / 64] >> (rank % 64)) & 1;
  }
  void insert(Rank rank) { words_[rank / 64] |= std::uint64_t{1} << rank % 64; }
  bool empty() const;
  bool intersects(const RankSet& other) const;
  void unite(const RankSet& other);

 private:
  std::vector<std::uint64_t> words_;
};

/// The content of one part's place in a slot.
struct PartState {
  bool present = false;   ///< whole and readable
  bool arriving = false;  ///< a receive into it is posted
  int readers = 0;        ///< posted sends from it
  RankSet contributors;   ///< of a gradient: whose contributions it sums
};

/// A slot of a rank: parts of one strand of one owner's block.
struct SlotState {
  BlockId block{-1, -1, 0};  ///< part unused
  std::vector<PartState> parts;

  bool holds(const BlockId& id) const {
    return block.owner == id.owner && block.strand == id.strand;
  }
};

/// All numbered slots. Every method throws InvalidArgument, with `what` as
/// the one that can't, if the slots are in no state for it.
class SlotTable {
 public:
  explicit SlotTable(int ranks);

  /// The part, which must be whole and not being overwritten.
  PartState& readable(Rank rank, Payload payload, int slot,
                      const BlockId& block, Subject what);
  /// Makes the place of a part ready to be written; a slot that holds another
  /// block is emptied. Nothing in it may be under way.
  PartState& writable(Rank rank, Payload payload, int slot,
                      const BlockId& block, Subject what);
  /// The part, in whatever state; nullptr if the slot holds no such part.
  PartState* find(Rank rank, Payload payload, int slot, const BlockId& block);

 private:
  SlotState& slot(Rank rank, Payload payload, int slot);

  // By rank and payload, then slot number. Growing a deque moves nothing, so
  // references stay valid. Numbers beyond kDense, which no generator makes, are
  // looked up, lest a bad one costs memory.
  static constexpr int kDense = 4096;
  std::vector<std::deque<SlotState>> dense_;
  std::unordered_map<std::uint64_t, SlotState> sparse_;
};

}  // namespace ringweave::schedule

template <>
struct fmt::formatter<ringweave::schedule::BlockId>
    : fmt::formatter<std::string_view> {
  auto format(const ringweave::schedule::BlockId& block,
              format_context& context) const {
    return format_to(context.out(), "{}", ringweave::schedule::describe(block));
  }
};

template <>
struct fmt::formatter<ringweave::schedule::Subject>
    : fmt::formatter<std::string_view> {
  auto format(const ringweave::schedule::Subject& subject,
              format_context& context) const {
    return format_to(context.out(), "{}",
                     ringweave::schedule::describe(subject));
  }
};
