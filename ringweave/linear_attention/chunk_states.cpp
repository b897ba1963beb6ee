#include "ringweave/linear_attention/chunk_states.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <ATen/ATen.h>

namespace ringweave::linear_attention {
namespace {

/// sum += factors ⊙ state; undefined factors: 1.
void add_decayed(const at::Tensor& sum, const at::Tensor& factors,
                 const at::Tensor& state) {
  if (factors.defined()) {
    sum.addcmul_(factors, state);
  } else {
    sum.add_(state);
  }
}

/// Sums of logs before each row and after the last, following on `first`.
at::Tensor prefix_sums(const at::Tensor& first, const at::Tensor& logs) {
  const at::Tensor start = first.defined()
                               ? first.unsqueeze(0)
                               : at::zeros_like(logs.narrow(0, 0, 1));
  return at::cat({start, logs}).cumsum(0);
}

}  // namespace

void carry(const at::Tensor& rows, std::int64_t to, std::int64_t from,
           const ChunkDecays& decays, std::int64_t chunk) {
  add_decayed(
      rows.select(0, to),
      decays.factors.defined() ? decays.factors.select(0, chunk) : at::Tensor(),
      rows.select(0, from));
}

ChunkStates::ChunkStates(const std::vector<std::int64_t>& shape,
                         const at::TensorOptions& options,
                         std::vector<bool> cut, Order order)
    : cut_(std::move(cut)),
      forward_(order == Order::forward),
      left_(cut_.size()) {
  const auto rows = [&](std::int64_t count) {
    std::vector<std::int64_t> sizes = shape;
    sizes.insert(sizes.begin(), count);
    return at::empty(sizes, options);
  };
  rows_ = rows(std::ssize(cut_) + 1);
  rows_.select(0, forward_ ? 0 : std::ssize(cut_)).zero_();
  stretch_states_ = rows((std::ssize(cut_) + kStretch - 1) / kStretch);
}

at::Tensor ChunkStates::updates(const Range& chunks) const {
  return rows_.narrow(0, after(chunks.begin), chunks.size());
}

bool ChunkStates::starts_stretch(const Range& chunks) const {
  return forward_
             ? chunks.begin % kStretch == 0
             : chunks.end % kStretch == 0 || chunks.end == std::ssize(cut_);
}

bool ChunkStates::ends_stretch(const Range& chunks) const {
  return forward_ ? chunks.end % kStretch == 0 || chunks.end == std::ssize(cut_)
                  : chunks.begin % kStretch == 0;
}

void ChunkStates::append(const Range& chunks, const ChunkDecays& decays) {
  const bool first = starts_stretch(chunks);
  if (first) {
    const std::int64_t index = chunks.begin / kStretch;
    const at::Tensor state = stretch_states_.select(0, index);
    if (sum_.defined()) {
      state.copy_(sum_);
    } else {
      state.zero_();
    }
    stretches_.push_back({index,
                          all_logs_.defined()
                              ? all_logs_.exp().to(rows_.scalar_type())
                              : at::Tensor(),
                          !all_cut_});
  }
  for (std::int64_t i = 0; i < chunks.size(); ++i) {
    const std::int64_t c = forward_ ? chunks.begin + i : chunks.end - 1 - i;
    if (cut_[c]) {
      stretch_cut_ = true;
    } else if (i > 0 || !first) {
      carry(rows_, after(c), before(c), decays, c - chunks.begin);
    }
  }
  if (decays.logs.defined()) {
    const at::Tensor sums =
        prefix_sums(logs_, forward_ ? decays.logs : decays.logs.flip(0));
    const at::Tensor left =
        sums.narrow(0, 0, chunks.size()).exp().to(rows_.scalar_type());
    left_[chunks.begin] = forward_ ? left : left.flip(0);
    logs_ = sums.select(0, chunks.size());
  }
  if (ends_stretch(chunks)) end_stretch(chunks);
}

void ChunkStates::end_stretch(const Range& chunks) {
  const std::int64_t boundary = forward_ ? chunks.end : chunks.begin;
  const at::Tensor end = rows_.select(0, boundary);
  const bool last = boundary == (forward_ ? std::ssize(cut_) : 0);
  const bool alone = stretch_cut_ || !sum_.defined();
  if (last && alone) {
    update_ = end;
  } else if (alone) {
    sum_ = end.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  } else {
    if (logs_.defined()) sum_.mul_(logs_.exp());
    sum_.add_(end);
    if (last) update_ = sum_.to(rows_.scalar_type());
  }
  // The next stretch starts from zero.
  if (!last) end.zero_();
  all_cut_ = all_cut_ || stretch_cut_;
  stretch_cut_ = false;
  if (logs_.defined()) {
    all_logs_ = all_logs_.defined() ? all_logs_ + logs_ : logs_;
    logs_ = at::Tensor();
  }
}

at::Tensor ChunkStates::decay() const {
  if (all_cut_) {
    const double nothing = -std::numeric_limits<double>::infinity();
    return all_logs_.defined()
               ? at::full_like(all_logs_, nothing, rows_.options())
               : at::full({1, 1, 1, 1}, nothing, rows_.options());
  }
  return all_logs_.defined() ? all_logs_.to(rows_.scalar_type()) : all_logs_;
}

void ChunkStates::start(const at::Tensor& state) {
  started_ = state.defined();
  if (!started_) return;
  for (const Stretch& stretch : stretches_) {
    if (!stretch.reached) break;
    add_decayed(stretch_states_.select(0, stretch.index), stretch.left, state);
  }
}

Range ChunkStates::reached(const Range& chunks) const {
  const std::int64_t first = chunks.begin / kStretch * kStretch;
  const std::int64_t end =
      std::min(first + kStretch, static_cast<std::int64_t>(cut_.size()));
  Range result = chunks;
  for (std::int64_t c = first; c < end; ++c) {
    if (!cut_[c]) continue;
    if (forward_) {
      result.end = std::clamp(c + 1, chunks.begin, chunks.end);
      break;
    }
    result.begin = std::clamp(c, chunks.begin, chunks.end);
  }
  return result;
}

at::Tensor ChunkStates::states(const Range& chunks) {
  const std::int64_t stretch = chunks.begin / kStretch;
  const Range range = reached(chunks);
  const bool zero = !started_ && stretch == stretches_.front().index;
  if (!zero && range.size() > 0) {
    const at::Tensor& left = left_[chunks.begin];
    add_decayed(rows_.narrow(0, before(range.begin), range.size()),
                left.defined()
                    ? left.narrow(0, range.begin - chunks.begin, range.size())
                    : left,
                stretch_states_.select(0, stretch));
  }
  return rows_.narrow(0, before(chunks.begin), chunks.size());
}

}  // namespace ringweave::linear_attention
