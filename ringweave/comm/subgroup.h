// Some ranks of a group as a group of their own.
#pragma once

#include <memory>
#include <vector>

#include "ringweave/comm/transport.h"

namespace ringweave::comm {

/// `members` of `whole`, ascending, of which this rank must be one: member i is
/// rank i. Its messages go through `whole`, which outlives it, and match in one
/// order with those that are posted there: all ranks must post both in the same
/// order. Errors and first_failed() name the ranks of `whole`.
std::shared_ptr<Transport> subgroup(Transport& whole,
                                    std::vector<Rank> members);

}  // namespace ringweave::comm
