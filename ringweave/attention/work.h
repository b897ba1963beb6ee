// What a rank computes in each step, worked out once per plan.
#pragma once

#include <map>
#include <vector>

#include "ringweave/attention/local_tile.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::attention {

/// Where a part lies in its packed block, in units.
struct Place {
  std::int64_t offset = 0;
  std::int64_t size = 0;
};

/// All of the rank's queries against the keys of one block part; or, as they
/// need not be packed, against several neighbouring parts of the own shard.
struct TileWork {
  schedule::BlockId block;
  bool own = false;
  schedule::Run local;  ///< the keys among the owner's tokens
  int slot = schedule::kOwn;
  int grad_slot = schedule::kOwn;
  Place place;
  std::vector<LocalTile> tiles;
};

/// One pass of one rank: [step] → its work, and where each part lies.
struct PassWork {
  std::vector<std::vector<TileWork>> steps;
  std::map<schedule::BlockId, Place> places;
  /// Where gradients of a part are added: of the parts it computes, and of
  /// those that it only passes on.
  std::map<schedule::BlockId, int> grad_slots;
};

PassWork make_pass_work(const schedule::Schedule& part, Rank rank,
                        const schedule::AttentionDemand& demand, int strands);

}  // namespace ringweave::attention
