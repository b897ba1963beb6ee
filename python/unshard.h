// Gathers shards into the whole, with a gradient.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "python/group.h"
#include "ringweave/schedule/layout/layout.h"

namespace ringweave::python {

/// The positions of a rank's tokens, int64.
at::Tensor positions(const schedule::Layout& layout, Rank rank);

/// The whole tensor, on every rank, from the ranks' shards, whose tokens are in
/// dimension `dim`. Any type, any other dimensions, which all ranks have equal.
/// The gradient of a shard is that of its tokens, summed over the ranks in rank
/// order, in fp32 at least. Every rank must call it, and its backward. Throws
/// as Communicator::call().
at::Tensor unshard(const at::Tensor& part, const schedule::Layout& layout,
                   std::int64_t dim, const std::shared_ptr<GroupState>& state);

}  // namespace ringweave::python
