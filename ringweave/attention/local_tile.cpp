#include "ringweave/attention/local_tile.h"

namespace ringweave::attention {
namespace {

/// A run of alike rows shorter than this is not worth a kernel call of its own,
/// unless nothing but it is left.
constexpr std::size_t kWorthwhileRows = 16;
/// Rows of a masked band: the band computes up to this many keys too many per
/// row, and its mask has this many rows in memory.
constexpr std::size_t kBandRows = 128;

/// Number of rows from the first on that see the same keys.
std::size_t equal_rows(std::span<const Range> rows) {
  std::size_t n = 1;
  while (n < rows.size() && rows[n] == rows[0]) ++n;
  return n;
}

/// Number of rows from the first on that each see one key more.
std::size_t stair_rows(std::span<const Range> rows) {
  std::size_t n = 1;
  while (n < rows.size() && rows[n].begin == rows[0].begin &&
         rows[n].end == rows[n - 1].end + 1) {
    ++n;
  }
  return n;
}

/// Number of rows from the first on that see any key.
std::size_t visible_rows(std::span<const Range> rows) {
  std::size_t n = 0;
  while (n < rows.size() && !rows[n].empty()) ++n;
  return n;
}

void add_stair(std::vector<LocalTile>& tiles, const Range& rows,
               const Range& first) {
  const Range before = {first.begin, first.end - 1};
  if (!before.empty()) {
    tiles.push_back({LocalTile::Kind::full, rows, before, {}});
  }
  tiles.push_back({LocalTile::Kind::causal,
                   rows,
                   {before.end, before.end + rows.size()},
                   {}});
}

void add_band(std::vector<LocalTile>& tiles, const Range& rows,
              std::span<const Range> intervals) {
  LocalTile tile = {LocalTile::Kind::masked, rows, intervals[0], {}};
  for (const Range& keys : intervals) {
    tile.keys.begin = std::min(tile.keys.begin, keys.begin);
    tile.keys.end = std::max(tile.keys.end, keys.end);
  }
  for (const Range& keys : intervals) {
    tile.intervals.push_back(
        {keys.begin - tile.keys.begin, keys.end - tile.keys.begin});
  }
  tiles.push_back(std::move(tile));
}

}  // namespace

std::vector<LocalTile> local_tiles(std::span<const Range> intervals) {
  std::vector<LocalTile> tiles;
  std::size_t at = 0;
  const auto rows = [&](std::size_t count) {
    return Range{static_cast<std::int64_t>(at),
                 static_cast<std::int64_t>(at + count)};
  };
  while (at < intervals.size()) {
    std::span<const Range> rest = intervals.subspan(at);
    rest = rest.first(visible_rows(rest));
    if (rest.empty()) {
      ++at;
      continue;
    }
    const auto worthwhile = [&](std::size_t count, std::size_t left) {
      return count >= std::min(kWorthwhileRows, left);
    };
    const std::size_t equal = equal_rows(rest);
    const std::size_t stair = stair_rows(rest);
    std::size_t count = std::max(equal, stair);
    if (worthwhile(count, rest.size())) {
      if (equal >= stair) {
        tiles.push_back({LocalTile::Kind::full, rows(count), rest[0], {}});
      } else {
        add_stair(tiles, rows(count), rest[0]);
      }
    } else {
      while (count < std::min(kBandRows, rest.size())) {
        const auto after = rest.subspan(count);
        const std::size_t alike =
            std::max(equal_rows(after), stair_rows(after));
        if (alike >= kWorthwhileRows) break;
        count += alike;
      }
      count = std::min({count, kBandRows, rest.size()});
      add_band(tiles, rows(count), rest.first(count));
    }
    at += count;
  }
  return tiles;
}

}  // namespace ringweave::attention
