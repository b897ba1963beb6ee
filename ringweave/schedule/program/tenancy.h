// What lies in a rank's slots, and for how long: the slots of a schedule played
// for one rank, without checks (proof/validate.h has them).
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// A part of a block in a slot.
struct Tenant {
  int part = 0;
  std::int64_t size = 0;  ///< in units
  bool retained = false;
  int tile_step = -1;  ///< in which the rank computes it; -1: never
};

/// The time in which a slot holds parts of one strand of one block.
struct Tenancy {
  Payload payload = Payload::kv;
  int slot = 0;
  BlockId block;         ///< of its strand; the part is unused
  bool staging = false;  ///< of gradients that are to be added elsewhere
  /// From the step in which the first part is received or computed, until the
  /// step in whose posts and tiles the slot may be written again.
  int begin = 0;
  int end = 0;
  std::vector<Tenant> tenants = {};  ///< by part
};

/// Indices of tenancies; kNobody: the rank's own block, or another rank's.
struct Tenancies {
  static constexpr int kNobody = -1;

  std::vector<Tenancy> all;
  std::vector<int> of_source;  ///< [transfer] that it is sent from
  std::vector<int> of_target;  ///< [transfer] that it lands in
  std::vector<int> of_sum;     ///< [transfer] that it is added to; kNobody for
                               ///< the owner's sum, and other actions
  std::vector<int> of_keys;    ///< [tile]
  std::vector<int> of_gradient;  ///< [tile]
};

/// `part`: the rank's part of a valid schedule. Throws InvalidArgument if a
/// transfer or a tile wants what is not in its slot.
Tenancies tenancies_of(const Schedule& part, Rank rank);

}  // namespace ringweave::schedule
