#include "ringweave/schedule/mask/area.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace ringweave::schedule {
namespace {

/// Sum of ⌊(step·i + start) / divisor⌋ for i = 0 … count - 1, all numbers >= 0
/// and divisor > 0: the lattice points under a line, by Euclid's algorithm.
std::int64_t floor_sum(std::int64_t count, std::int64_t divisor,
                       std::int64_t step, std::int64_t start) {
  std::int64_t sum = 0;
  while (count > 0) {
    sum +=
        (count - 1) * count / 2 * (step / divisor) + count * (start / divisor);
    step %= divisor;
    start %= divisor;
    const std::int64_t last = step * count + start;
    count = last / divisor;
    start = last % divisor;
    std::swap(divisor, step);
  }
  return sum;
}

/// Pairs of `rows` × `keys` with key_stride · j - row_stride · i <= high.
std::int64_t pairs_up_to(std::int64_t rows, std::int64_t keys, const Band& band,
                         std::int64_t high) {
  if (rows == 0 || keys == 0) return 0;
  // Row i sees the first ⌊(row_stride·i + high) / key_stride⌋ + 1 keys, but at
  // least none and at most all.
  const auto first_reaching = [&](std::int64_t distance) {
    const std::int64_t missing = distance - high;
    return missing <= 0 ? std::int64_t{0}
                        : std::min(rows, ceil_div(missing, band.row_stride));
  };
  const std::int64_t some = first_reaching(0);
  const std::int64_t all = first_reaching((keys - 1) * band.key_stride);
  return (rows - all) * keys + (all - some) +
         floor_sum(all - some, band.key_stride, band.row_stride,
                   some * band.row_stride + high);
}

/// A band between two runs, all in indices of rows and keys.
class BandCutter {
 public:
  BandCutter(const Run& queries, const Run& keys, std::int64_t left,
             std::int64_t right, std::vector<Area>& areas)
      : rows_(queries.length),
        keys_(keys.length),
        band_{queries.stride, keys.stride, -left + queries.begin - keys.begin,
              right + queries.begin - keys.begin},
        areas_(areas) {}

  // Rows see a first key from some row on, and the last key from a later one
  // on. They miss the first key from some row on, and all keys from a later one
  // on.
  void cut() {
    const std::int64_t begin = first_row_up_to(0);
    const std::int64_t end = first_row_beyond(keys_ - 1);
    if (begin >= end) return;
    // Rows that see all keys, but none beyond, belong to the stair that ends
    // there, if there is one. A token that sees itself is a stair of its own.
    std::int64_t sees_last = std::clamp(first_row_up_to(keys_ - 1), begin, end);
    const bool sees_itself = keys_ == 1 && band_.high == 0;
    if (sees_last > begin || sees_itself) {
      sees_last = std::clamp(first_row_up_to(keys_), begin, end);
    }
    const std::int64_t misses_first =
        std::clamp(first_row_beyond(0), begin, end);
    add_below_upper_limit({begin, std::min(sees_last, misses_first)});
    if (sees_last < misses_first) {
      areas_.push_back({{sees_last, misses_first}, {0, keys_}});
    }
    add_band({misses_first, sees_last});
    add_band({std::max(sees_last, misses_first), end});
  }

 private:
  /// The first row that sees key `j` or would see a later one.
  std::int64_t first_row_up_to(std::int64_t j) const {
    return std::clamp<std::int64_t>(
        ceil_div(band_.key_stride * j - band_.high, band_.row_stride), 0,
        rows_);
  }
  /// The first row all of whose keys come after key `j`.
  std::int64_t first_row_beyond(std::int64_t j) const {
    return std::clamp<std::int64_t>(
        floor_div(band_.key_stride * j - band_.low, band_.row_stride) + 1, 0,
        rows_);
  }

  /// Rows that see the first key, and none beyond the last one.
  void add_below_upper_limit(const Range& rows) {
    if (rows.empty()) return;
    if (band_.row_stride != band_.key_stride) return add_band(rows);
    const std::int64_t first = band_.keys(rows.begin).end - 1;
    if (first > 0) areas_.push_back({rows, {0, first}});
    areas_.push_back({rows, {first, first + rows.size()}, Area::Kind::causal});
  }

  void add_band(const Range& rows) {
    if (rows.empty()) return;
    const Range keys =
        clipped({band_.keys(rows.begin).begin, band_.keys(rows.end - 1).end},
                {0, keys_});
    // Rows and keys with equal strides meet in all rows or in none.
    if (keys.empty() || (band_.row_stride == band_.key_stride &&
                         band_.keys(rows.begin).empty())) {
      return;
    }
    areas_.push_back(
        {rows, keys, Area::Kind::band, band_.shifted(rows.begin, keys.begin)});
  }

  std::int64_t rows_;
  std::int64_t keys_;
  Band band_;
  std::vector<Area>& areas_;
};

/// Takes the full areas out of `areas`.
std::vector<Area> take_full(std::vector<Area>& areas) {
  const auto full = std::stable_partition(
      areas.begin(), areas.end(),
      [](const Area& area) { return area.kind != Area::Kind::full; });
  std::vector<Area> taken(full, areas.end());
  areas.erase(full, areas.end());
  return taken;
}

/// Joins areas that are equal in `same` and adjacent in `next`.
void join_along(std::vector<Area>& areas, Range Area::*same,
                Range Area::*next) {
  std::sort(areas.begin(), areas.end(), [&](const Area& a, const Area& b) {
    return std::tuple((a.*same).begin, (a.*same).end, (a.*next).begin) <
           std::tuple((b.*same).begin, (b.*same).end, (b.*next).begin);
  });
  std::size_t kept = 0;
  for (std::size_t i = 1; i < areas.size(); ++i) {
    if (areas[kept].*same == areas[i].*same &&
        (areas[kept].*next).end == (areas[i].*next).begin) {
      (areas[kept].*next).end = (areas[i].*next).end;
    } else {
      areas[++kept] = areas[i];
    }
  }
  if (!areas.empty()) areas.resize(kept + 1);
}

/// Two causal squares, one after the other on the diagonal, and the full area
/// below the first and left of the second.
void join_stairs(std::vector<Area>& causal, std::vector<Area>& full) {
  std::size_t kept = 0;
  for (std::size_t i = 1; i < causal.size(); ++i) {
    Area& stair = causal[kept];
    const Area& next = causal[i];
    const Area between{next.rows, stair.keys};
    const auto found = std::find(full.begin(), full.end(), between);
    if (stair.kind == Area::Kind::causal && next.kind == Area::Kind::causal &&
        stair.rows.end == next.rows.begin &&
        stair.keys.end == next.keys.begin && found != full.end()) {
      stair.rows.end = next.rows.end;
      stair.keys.end = next.keys.end;
      full.erase(found);
    } else {
      causal[++kept] = next;
    }
  }
  if (!causal.empty()) causal.resize(kept + 1);
}

bool before(const Area& a, const Area& b) {
  return std::tuple(a.rows.begin, a.keys.begin) <
         std::tuple(b.rows.begin, b.keys.begin);
}

}  // namespace

Range Band::keys(std::int64_t i) const {
  const std::int64_t at = row_stride * i;
  return {ceil_div(low + at, key_stride), floor_div(high + at, key_stride) + 1};
}

Range Area::seen(std::int64_t i) const {
  switch (kind) {
    case Kind::full:
      return keys;
    case Kind::causal:
      return {keys.begin, keys.begin + i + 1};
    case Kind::band:
      break;
  }
  const Range inside = clipped(band.keys(i), {0, keys.size()});
  return inside.empty()
             ? Range{}
             : Range{keys.begin + inside.begin, keys.begin + inside.end};
}

std::int64_t Area::pairs() const {
  switch (kind) {
    case Kind::full:
      return rows.size() * keys.size();
    case Kind::causal:
      return rows.size() * (rows.size() + 1) / 2;
    case Kind::band:
      break;
  }
  return pairs_up_to(rows.size(), keys.size(), band, band.high) -
         pairs_up_to(rows.size(), keys.size(), band, band.low - 1);
}

void add_band_areas(const Run& queries, const Run& keys, std::int64_t left,
                    std::int64_t right, std::vector<Area>& areas) {
  if (queries.length == 0 || keys.length == 0) return;
  BandCutter(queries, keys, left, right, areas).cut();
}

bool any_in_band(const Run& queries, const Run& keys, std::int64_t left,
                 std::int64_t right) {
  if (queries.length == 0 || keys.length == 0) return false;
  const std::int64_t nearest = keys.begin - (queries.end() - 1);
  const std::int64_t farthest = keys.end() - 1 - queries.begin;
  if (nearest > right || farthest < -left) return false;
  // The extreme pairs decide, unless both sides are limited and the allowed
  // differences fall between those that occur.
  if (nearest >= -left || farthest <= right) return true;
  std::vector<Area> areas;
  add_band_areas(queries, keys, left, right, areas);
  return std::ranges::any_of(areas,
                             [](const Area& area) { return area.pairs() > 0; });
}

void join_areas(std::vector<Area>& areas) {
  std::vector<Area> full = take_full(areas);
  join_along(full, &Area::keys, &Area::rows);
  join_along(full, &Area::rows, &Area::keys);
  std::sort(areas.begin(), areas.end(), before);
  join_stairs(areas, full);
  areas.insert(areas.end(), full.begin(), full.end());
  std::sort(areas.begin(), areas.end(), before);
}

}  // namespace ringweave::schedule
