// Rectangles of (query, key) pairs: what a mask lets be seen, and what a kernel
// computes.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/schedule/layout/layout.h"

namespace ringweave::schedule {

/// Far beyond every position, and far from overflow when positions are added.
inline constexpr std::int64_t kUnlimited =
    std::numeric_limits<std::int64_t>::max() / 4;

/// The pairs (i, j), counted from the first row and the first key of an area,
/// with low <= key_stride · j - row_stride · i <= high: differences of
/// positions between limits, for rows and keys that are runs. A side without
/// limit is ∓kUnlimited or beyond.
struct Band {
  std::int64_t row_stride = 1;
  std::int64_t key_stride = 1;
  std::int64_t low = -kUnlimited;
  std::int64_t high = kUnlimited;

  /// The keys that row `i` sees, not clipped to the area.
  Range keys(std::int64_t i) const;
  /// The same band, counted from row `rows` and key `keys` of this one.
  Band shifted(std::int64_t rows, std::int64_t keys) const {
    const std::int64_t move = row_stride * rows - key_stride * keys;
    return {row_stride, key_stride, low + move, high + move};
  }
  friend bool operator==(const Band&, const Band&) = default;
};

/// Some of the rows × keys are visible. Rows and keys are indices into whatever
/// was asked about.
struct Area {
  enum class Kind : std::uint8_t {
    full,    ///< every row sees every key
    causal,  ///< square; row i sees keys 0 … i
    band     ///< as `band` says
  };

  Range rows;
  Range keys;
  Kind kind = Kind::full;
  Band band = {};  ///< of Kind::band

  /// The keys that row `rows.begin + i` sees, counted like `keys`.
  Range seen(std::int64_t i) const;
  /// Number of visible pairs.
  std::int64_t pairs() const;
  friend bool operator==(const Area&, const Area&) = default;
};

/// Appends the areas of a band of positions between two runs: a query at q sees
/// a key at k if -left <= k - q <= right. At most four areas, which share no
/// pair. Each of their rows sees a key and each of their keys is seen, except
/// in a band of rows and keys with unequal strides. With equal strides a limit
/// on one side makes full areas and causal squares.
void add_band_areas(const Run& queries, const Run& keys, std::int64_t left,
                    std::int64_t right, std::vector<Area>& areas);

/// Whether add_band_areas() would append any.
bool any_in_band(const Run& queries, const Run& keys, std::int64_t left,
                 std::int64_t right);

/// Joins areas that one kernel call can do: full ones with the same rows and
/// adjacent keys, full ones with the same keys and adjacent rows, and two
/// causal squares with the full area that makes them one. Sorts them by rows,
/// then keys.
void join_areas(std::vector<Area>& areas);

}  // namespace ringweave::schedule
