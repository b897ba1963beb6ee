// One rank's pass, compiled: what it posts, waits for, adds and computes in
// each step, and where in memory everything lies. Made once per plan, run for
// every layer and every batch: sizes are in units, and the caller knows the
// bytes of a unit.
#pragma once

#include <map>
#include <vector>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/mask/area.h"
#include "ringweave/schedule/program/placement.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

struct Program {
  struct Message {
    Rank peer = 0;
    bool outgoing = false;
    Payload payload = Payload::kv;
    Place place;
    /// Of an outgoing message that passes on what one message brought: the
    /// arrival, by its index. -1: its content was made here, came
    /// by several, or is a sum.
    int forwards = -1;
    BlockId block;  ///< its first part
    int parts = 1;  ///< parts block.part … + parts - 1, side by side
  };

  /// Adds one place to another, both of kv_grad.
  struct Sum {
    Place from;
    Place to;
    friend bool operator==(const Sum&, const Sum&) = default;
  };

  /// One call of a kernel.
  struct Call {
    Area area;  ///< rows: the rank's queries; keys: of the region, from 0
    /// The first of the pass for its rows, or of the region for its keys: its
    /// result takes the place of what is there, else it is merged or added.
    bool first_for_rows = true;
    bool first_for_keys = true;
    friend bool operator==(const Call&, const Call&) = default;
  };

  /// Keys that lie side by side and are computed in one step.
  struct Region {
    Memory memory = Memory::scratch;
    Run keys;  ///< units of the memory; of input the rank's tokens
    std::vector<Call> calls;

    /// Backward: where the gradients of some of the region's keys are put.
    struct Gradient {
      Run keys;  ///< of the region, from 0
      Place place;
      friend bool operator==(const Gradient&, const Gradient&) = default;
    };
    std::vector<Gradient> gradients;
    /// Backward: no call is the first for its keys, so all gradients start at
    /// 0.
    bool starts_at_zero = false;
  };

  struct Step {
    std::vector<int> arrivals;    ///< indices of messages to wait for
    std::vector<Sum> sums;        ///< then these are added, in this order
    std::vector<int> sent;        ///< then these sends are waited for
    std::vector<int> receives;    ///< then these are posted,
    std::vector<int> sends;       ///< and these
    std::vector<Region> regions;  ///< meanwhile these are computed
  };

  /// Some of the rank's own tokens in its packed block.
  struct Packed {
    std::int64_t begin = 0;  ///< in units of the packed block
    Run local;               ///< among the rank's tokens
    friend bool operator==(const Packed&, const Packed&) = default;
  };

  Rank rank = 0;
  Pass pass = Pass::forward;
  std::vector<Message> messages;
  std::vector<Step> steps;  ///< the last one only waits and adds
  std::vector<Packed> packing;
  bool packs_keys = false;  ///< it sends some of its own keys and values
  /// Gradients of own keys and values are summed in packed order. If not, only
  /// own tiles make them, region by region of the input.
  bool packs_gradients = false;
  /// Packed gradients start at 0, and everything is added to them: some arrive
  /// before the own tiles are computed, or own tiles don't cover the block.
  bool packed_gradients_start_at_zero = false;
  /// Rows that no call is the first for: they start as rows that see no key.
  std::vector<Range> rows_to_clear;

  std::int64_t packed_size = 0;  ///< of the own block
  std::map<Payload, std::int64_t> scratch_size;
  std::int64_t kept_size = 0;  ///< of what forward leaves for backward
  std::map<BlockId, Place> kept;

  /// What scratch and kept take: the pass's buffers.
  std::int64_t buffer_bytes(const UnitBytes& unit_bytes) const;
  /// Sent to each rank.
  std::map<Rank, std::int64_t> sent_bytes(const UnitBytes& unit_bytes) const;
  /// Steps up to the last one that posts a message; at least 1.
  int posting_steps() const;
};

/// `part` is the rank's part of a schedule for `demand`, whose shards are cut
/// into `strands`. A backward pass wants the program of its forward pass, which
/// says where the kept keys lie. Throws InvalidArgument if `part` is not of a
/// valid schedule.
Program compile(const Schedule& part, Rank rank, const AttentionDemand& demand,
                int strands, const Program* forward = nullptr);

/// The same for summaries, which no kernel computes: messages and memory only.
Program compile_summaries(const Schedule& part, Rank rank, const Demand& demand,
                          int strands);

}  // namespace ringweave::schedule
