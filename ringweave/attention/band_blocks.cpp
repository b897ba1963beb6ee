#include "ringweave/attention/band_blocks.h"

namespace ringweave::attention {
namespace {

using schedule::Area;
using schedule::Band;

/// Rows of a block: it computes up to this many keys too many per row, and its
/// bias has this many rows in memory.
constexpr std::int64_t kBlockRows = 128;
/// Keys that all rows see and that are worth a kernel call of their own.
constexpr std::int64_t kWorthwhileKeys = 16;

/// One block; rows and keys count from those of the area.
class Block {
 public:
  Block(const Area& area, const Range& rows, std::vector<Area>& result)
      : area_(area),
        rows_(rows),
        keys_(area.keys.size()),
        first_(area.band.keys(rows.begin)),
        last_(area.band.keys(rows.end - 1)),
        result_(result) {}

  void cut() {
    // Both ends of what a row sees only rise with the row.
    const Range seen = clipped({first_.begin, last_.end}, {0, keys_});
    if (seen.empty()) return;
    const Range by_all = clipped({last_.begin, first_.end}, {0, keys_});
    const bool limited_below = last_.begin > seen.begin;
    const bool limited_above = first_.end < seen.end;
    if (by_all.size() < kWorthwhileKeys || (limited_below && limited_above)) {
      return add_band(rows_, seen);
    }
    result_.push_back(
        {moved(rows_, area_.rows.begin), moved(by_all, area_.keys.begin)});
    if (limited_above) {
      Range rows = rows_;
      while (area_.band.keys(rows.begin).end <= by_all.end) ++rows.begin;
      add_band(rows, {by_all.end, seen.end});
    }
    if (limited_below) {
      Range rows = rows_;
      while (area_.band.keys(rows.end - 1).begin >= by_all.begin) --rows.end;
      add_band(rows, {seen.begin, by_all.begin});
    }
  }

 private:
  void add_band(const Range& rows, const Range& keys) {
    result_.push_back({moved(rows, area_.rows.begin),
                       moved(keys, area_.keys.begin), Area::Kind::band,
                       area_.band.shifted(rows.begin, keys.begin)});
  }

  const Area& area_;
  const Range rows_;
  const std::int64_t keys_;
  const Range first_;  // what the first row sees, not clipped
  const Range last_;
  std::vector<Area>& result_;
};

}  // namespace

std::vector<Area> band_blocks(const Area& band) {
  std::vector<Area> blocks;
  for (std::int64_t row = 0; row < band.rows.size(); row += kBlockRows) {
    const Range rows{row, std::min(row + kBlockRows, band.rows.size())};
    Block(band, rows, blocks).cut();
  }
  return blocks;
}

bool may_have_blind_rows(const Area& band) {
  return band.band.row_stride != band.band.key_stride;
}

}  // namespace ringweave::attention
