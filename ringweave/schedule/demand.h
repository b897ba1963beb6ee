// What has to travel: the blocks, their sizes, and which rank needs which.
//
// Generators know walks, trees and steps, not layouts or masks. A Demand tells
// them the rest. Sizes are in units (schedule.h, Block).
#pragma once

#include <cstdint>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// How many of the strands of a part.
enum class Strands : std::uint8_t { none, some, all };

class Demand {
 public:
  virtual ~Demand() = default;

  virtual int ranks() const = 0;
  /// Number of parts of a block of `owner`.
  virtual int parts(Rank owner) const = 0;
  /// Units of a part when the shard is cut into `strands`.
  virtual std::int64_t size(const BlockId& block, int strands) const = 0;
  /// Whether `rank` uses the part; a part of size 0 is used by nobody. Whether
  /// an owner uses its own part counts for tiles, not for transfers.
  virtual bool needs(Rank rank, const BlockId& block, int strands) const = 0;
  /// How many of the strands of `owner`'s part `rank` needs; `some` also stands
  /// for "ask needs() of each".
  virtual Strands strands_needed(Rank rank, Rank owner, int part,
                                 int strands) const {
    return Strands::some;
  }
  /// Whether a part and the next one of its block may lie side by side on
  /// `rank`, and so travel as one message. Keys may if the same queries of the
  /// rank see both: then the keys of several blocks can be neighbours as well.
  virtual bool side_by_side(Rank rank, const BlockId& block,
                            int strands) const {
    return true;
  }
  /// The strands of which that holds; `some` stands for "ask side_by_side()".
  virtual Strands strands_side_by_side(Rank rank, Rank owner, int part) const {
    return Strands::all;
  }
};

/// Keys and values of softmax attention: a rank needs a part if one of its
/// queries sees one of its keys.
class AttentionDemand final : public Demand {
 public:
  /// Layouts of queries and keys have the same ranks; both cover positions of
  /// one sequence (cross attention: only with a full mask may their token
  /// counts differ). Throws InvalidArgument otherwise.
  AttentionDemand(Layout q_layout, Layout kv_layout, Mask mask);

  int ranks() const override { return kv_layout_.ranks(); }
  int parts(Rank owner) const override { return kv_layout_.parts(owner); }
  std::int64_t size(const BlockId& block, int strands) const override;
  bool needs(Rank rank, const BlockId& block, int strands) const override;
  Strands strands_needed(Rank rank, Rank owner, int part,
                         int strands) const override;
  bool side_by_side(Rank rank, const BlockId& block,
                    int strands) const override;
  Strands strands_side_by_side(Rank rank, Rank owner, int part) const override;

  /// The areas of all queries of `rank`, in the order of its tokens, against a
  /// run of keys, joined (area.h).
  std::vector<Area> areas(Rank rank, const Run& keys) const;

  const Layout& q_layout() const { return q_layout_; }
  const Layout& kv_layout() const { return kv_layout_; }
  const Mask& mask() const { return mask_; }

 private:
  bool sees_any(Rank rank, const Run& keys) const;
  Run positions(const BlockId& block, int strands) const;

  Layout q_layout_;
  Layout kv_layout_;
  Mask mask_;
};

}  // namespace ringweave::schedule
