// A schedule: what every rank sends, receives and computes, step by step.
//
// Data, not code: generators make it, validators prove it, the executor runs
// it, JSON stores it. In step t a rank
//   1. waits for its transfers with wait_step == t and then, where their action
//      is add, adds what arrived (in order of the sending rank),
//   2. posts its transfers with post_step == t,
//   3. computes its tiles with step == t.
// After the last step it waits for transfers with wait_step == steps.
//
// Every rank keeps its own block packed in a buffer of its own (kOwn). What
// arrives lies in numbered slots, which are counted per rank and payload. A
// slot holds parts of one strand of one block at a time. Its size counts all
// parts of that block up to the last one that arrives there, dropped ones too.
// A program gives slots their memory (program/placement.h).
//
// Gradients: a tile of another rank's block puts its gradient into a numbered
// slot, replacing what was there. An owner's sum lies in kOwn and starts at
// zero. The owner's tile and the gradients of other ranks are added to it, in
// any order.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"

namespace ringweave::schedule {

enum class Pass { forward, backward };

/// What a transfer carries. kv: keys and values; kv_grad: their gradients;
/// q, out_lse: for schedules in which queries travel; summary: the state of a
/// segment of a linear layer.
enum class Payload { kv, kv_grad, q, out_lse, summary };
inline constexpr std::size_t kPayloads = 5;

/// What the receiver does with it. copy: it is the slot's content. add: it lies
/// in a staging slot (Transfer::slot) and is added to the gradient that the
/// receiver has of that block (sum_slot() says where). compose: of summaries,
/// the receiver composes it with what it has.
enum class Action { copy, add, compose };

/// A slot number that means the rank's own packed block.
inline constexpr int kOwn = -1;

/// Most strands that a block is cut into. Each costs steps and slots, so that a
/// number without bounds, from a file or a name, would cost memory.
inline constexpr int kMaxStrands = 4096;

/// Most steps of a schedule that is read, for the same reason.
inline constexpr int kMaxSteps = 1 << 20;

struct BlockId {
  Rank owner = 0;
  int strand = 0;
  int part = 0;
  friend auto operator<=>(const BlockId&, const BlockId&) = default;
};

/// A block part and its size in units: tokens of keys and values, or elements
/// of a summary. A schedule lists the parts that its transfers, tiles or
/// `retained` name, and the parts before them in their strand, whose sizes the
/// offsets need. It lists no part of size 0.
struct Block {
  BlockId id;
  std::int64_t size = 0;
  friend bool operator==(const Block&, const Block&) = default;
};

struct Transfer {
  Rank from = 0;
  Rank to = 0;
  BlockId block;
  Payload payload = Payload::kv;
  Action action = Action::copy;
  int post_step = 0;
  int wait_step = 0;
  int source_slot = kOwn;  ///< where the sender has it
  int slot = 0;            ///< where it lands at the receiver
  friend auto operator<=>(const Transfer&, const Transfer&) = default;
};

/// One rank's queries against one block part.
struct Tile {
  Rank rank = 0;
  int step = 0;
  BlockId block;
  int slot = kOwn;       ///< where the keys and values are
  int grad_slot = kOwn;  ///< backward: where their gradients are put
  friend auto operator<=>(const Tile&, const Tile&) = default;
};

/// Where a rank adds the gradients of a block part that arrive with
/// Action::add. An owner adds them in kOwn. Another rank adds them to the
/// gradient of `tile`, its own of that part. A rank without such a tile, which
/// passes `nullptr`, adds them to `copied`: the slot where a copy of the
/// gradient has landed, of which there is at most one. nullopt: it has nothing
/// to add them to.
inline std::optional<int> sum_slot(bool is_owner, const Tile* tile,
                                   std::optional<int> copied) {
  if (is_owner) return kOwn;
  return tile ? tile->grad_slot : copied;
}

/// Keys and values that stay in their slot after forward, for backward.
struct Retained {
  Rank rank = 0;
  BlockId block;
  int slot = 0;
  friend auto operator<=>(const Retained&, const Retained&) = default;
};

struct Schedule {
  int ranks = 0;
  Pass pass = Pass::forward;
  int steps = 0;
  std::vector<Block> blocks;        ///< sorted by id
  std::vector<Transfer> transfers;  ///< sorted by before()
  std::vector<Tile> tiles;          ///< sorted by (step, rank, block)
  std::vector<Retained> retained;   ///< forward: made; backward: found
  friend bool operator==(const Schedule&, const Schedule&) = default;
};

/// The order of transfers, which is the order of messages between two ranks:
/// (post_step, from, to, block), then the other fields.
bool before(const Transfer& a, const Transfer& b);

/// Of tiles: (step, rank, block), then the other fields.
bool before(const Tile& a, const Tile& b);

/// Strands that the listed blocks are cut into; at least 1.
int strand_count(const Schedule& schedule);

/// The size of a part in units; 0 if it is not listed.
std::int64_t block_size(const Schedule& schedule, const BlockId& block);

/// Bytes of one unit of each payload on the wire.
using UnitBytes = std::map<Payload, std::int64_t>;

/// Units sent over each directed link (from, to), by payload.
using LinkTraffic =
    std::map<std::pair<Rank, Rank>, std::map<Payload, std::int64_t>>;
LinkTraffic link_traffic(const Schedule& schedule);

/// Size in units of each slot of `rank` for `payload`, by slot number: the
/// largest extent of what ever lies in it, by a transfer or as a tile's
/// gradient. Retained parts don't count; they lie apart.
std::map<int, std::int64_t> slot_sizes(const Schedule& schedule, Rank rank,
                                       Payload payload);
/// Units of keys and values that stay with `rank` between the passes.
std::int64_t retained_size(const Schedule& schedule, Rank rank);
/// Sum of slot_sizes() over slots and payloads, and of retained_size(), in
/// bytes: what the executor's buffers take.
std::int64_t buffer_bytes(const Schedule& schedule, Rank rank,
                          const UnitBytes& unit_bytes);

/// Offset of a part in its block's packed form, in units: the sum of the sizes
/// of the block's parts before it.
std::int64_t part_offset(const Schedule& schedule, const BlockId& block);

const char* name(Pass);
const char* name(Payload);
const char* name(Action);

/// {"format": "ringweave.schedule", "version": 1, …}; from_json checks every
/// field's type and range and sorts the lists; whether the schedule means
/// anything is for validate.h. `name` stands in errors.
Json to_json(const Schedule& schedule);
Schedule schedule_from_json(const Json& json, const std::string& name);

}  // namespace ringweave::schedule
