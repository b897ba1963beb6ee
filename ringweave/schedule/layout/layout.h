// Which rank holds which tokens of the sequence.
//
// A shard is a list of runs, each an arithmetic progression of token
// positions. The order of a rank's tokens is the order of its runs. What runs
// asks here for runs and never for a kind of layout. Only the planner's
// formulas do, which hold for some kinds alone (planner/cost/balance.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/limits.h"
#include "ringweave/base/range.h"

namespace ringweave::schedule {

/// The positions begin, begin + stride, … (length of them).
struct Run {
  std::int64_t begin = 0;
  std::int64_t length = 0;
  std::int64_t stride = 1;

  std::int64_t at(std::int64_t i) const { return begin + i * stride; }
  /// One past the last position; begin if empty.
  std::int64_t end() const { return length == 0 ? begin : at(length - 1) + 1; }
  /// The indices i with at(i) in `positions`.
  Range indices_in(const Range& positions) const;
  friend bool operator==(const Run&, const Run&) = default;
};

/// A part of a shard that travels as one piece: where its tokens are in the
/// sequence, and where among the tokens of the rank that owns them.
struct BlockPart {
  Run positions;
  Run local;
};

/// A segment: a maximal contiguous run of positions on one rank. Linear layers
/// exchange one state per segment.
struct Segment {
  Rank rank = 0;
  int index = 0;       ///< among the segments of its rank, in position order
  Range positions;     ///< in the sequence
  std::int64_t local;  ///< index of its first token among the rank's tokens
};

/// Immutable. Copying is cheap enough for plans, not for inner loops.
class Layout {
 public:
  enum class Kind { contiguous, zigzag, striped, explicit_runs };

  /// Shards are consecutive pieces by the rule of cut().
  static Layout contiguous(std::int64_t tokens, int ranks);
  /// Consecutive pieces of the given lengths (0 is allowed).
  static Layout contiguous(const std::vector<std::int64_t>& lengths);
  /// 2·ranks chunks by cut(); rank r holds chunks r and 2·ranks - 1 - r.
  static Layout zigzag(std::int64_t tokens, int ranks);
  /// Rank r holds positions r, r + ranks, …
  static Layout striped(std::int64_t tokens, int ranks);
  /// Throws InvalidArgument unless each position 0 … tokens-1 is in exactly one
  /// run of one rank.
  static Layout from_runs(std::int64_t tokens,
                          std::vector<std::vector<Run>> runs);
  /// Of `name`, one of names().
  static Layout named(const std::string& name, std::int64_t tokens, int ranks);

  /// "contiguous", "zigzag", "striped": of the kinds, in their order.
  static const std::vector<std::string>& names();

  Kind kind() const { return kind_; }
  std::int64_t tokens() const { return tokens_; }
  int ranks() const { return static_cast<int>(runs_.size()); }

  /// The non-empty or empty runs of a rank, in the order of its tokens. Zigzag
  /// always has two, front and back.
  const std::vector<Run>& runs(Rank rank) const { return runs_[rank]; }
  std::int64_t shard_tokens(Rank rank) const;
  /// Position of each of the rank's tokens, in the order of its tokens.
  std::vector<std::int64_t> positions(Rank rank) const;

  /// Number of parts a block has: the runs of its owner.
  int parts(Rank owner) const { return static_cast<int>(runs_[owner].size()); }
  /// Part `part` of strand `strand` of `strands` of the owner's shard. Run
  /// `part` is cut by cut(); the back run of a zigzag shard in reverse order,
  /// so that all strands mean equal causal work; a run with a stride above 1 is
  /// dealt out token by token.
  BlockPart block_part(Rank owner, int strand, int strands, int part) const;

  /// Throws InvalidArgument, whose text starts with [where], for a layout that
  /// linear layers can't use: a striped one, or one that has a run of more than
  /// one token with a stride above 1.
  void check_runs(const std::string& where) const;

  /// All segments in position order; empty ones are left out.
  /// Throws InvalidArgument as check_runs().
  std::vector<Segment> segments() const;

  /// {"kind": "zigzag", "tokens": N, "ranks": n}, or "kind": "explicit" with
  /// "runs": per rank a list of [begin, length, stride].
  Json to_json() const;
  static Layout from_json(const Json& json, const std::string& path);

  friend bool operator==(const Layout&, const Layout&) = default;

 private:
  Layout(Kind kind, std::int64_t tokens, std::vector<std::vector<Run>> runs);

  Kind kind_;
  std::int64_t tokens_;
  std::vector<std::vector<Run>> runs_;
};

}  // namespace ringweave::schedule
