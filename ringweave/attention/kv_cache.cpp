#include "ringweave/attention/kv_cache.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"

namespace ringweave::attention {

void KvCache::make_room(std::int64_t tokens, const at::Tensor& like) {
  const std::int64_t kept = this->tokens();
  at::Tensor memory =
      tokens <= capacity()
          ? memory_
          : at::empty({2, tokens, like.size(2), like.size(3)}, like.options());
  if (kept > 0) {
    // Forward, token by token, lest it overwrites what it has yet to read.
    const bool overlaps = memory.is_same(memory_) && begin_ < kept;
    const at::Tensor from = memory_.narrow(1, begin_, kept);
    memory.narrow(1, 0, kept).copy_(overlaps ? from.clone() : from);
  }
  memory_ = std::move(memory);
  positions_.erase(positions_.begin(), positions_.begin() + begin_);
  begin_ = 0;
}

void KvCache::reserve(std::int64_t tokens, const at::Tensor& like) {
  if (tokens > capacity()) make_room(tokens, like);
}

void KvCache::append(const at::Tensor& k, const at::Tensor& v,
                     std::span<const std::int64_t> positions) {
  const auto added = static_cast<std::int64_t>(positions.size());
  ensure(k.size(1) == added && v.size(1) == added,
         "{} keys and {} values at {} positions", k.size(1), v.size(1), added);
  if (added == 0) return;
  ensure(tokens() == 0 || positions_.back() < positions.front(),
         "a key at {} behind one at {}", positions.front(),
         positions_.empty() ? -1 : positions_.back());
  const std::int64_t needed = tokens() + added;
  const auto used = static_cast<std::int64_t>(positions_.size());
  if (used + added > capacity()) {
    const std::int64_t grown = capacity() + capacity() / 2;
    make_room(needed <= capacity() ? needed : std::max(needed, grown), k);
  }
  const auto at = static_cast<std::int64_t>(positions_.size());
  memory_.select(0, 0).narrow(0, at, added).copy_(k.select(0, 0));
  memory_.select(0, 1).narrow(0, at, added).copy_(v.select(0, 0));
  positions_.insert(positions_.end(), positions.begin(), positions.end());
}

void KvCache::forget_before(std::int64_t position) {
  const auto kept = positions();
  begin_ += std::ranges::lower_bound(kept, position) - kept.begin();
}

KvPair KvCache::keys() const {
  if (!memory_.defined()) return {};
  const at::Tensor kept = memory_.narrow(1, begin_, tokens());
  return {kept.narrow(0, 0, 1), kept.narrow(0, 1, 1)};
}

std::int64_t KvCache::bytes() const {
  return memory_.defined() ? static_cast<std::int64_t>(memory_.nbytes()) : 0;
}

}  // namespace ringweave::attention
