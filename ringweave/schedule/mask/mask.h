// Which keys a query may attend to.
//
// Positions are global token indices, never RoPE positions. For every mask and
// every block part, the keys that a query sees are one interval of indices into
// that part; so a (queries, part) pair is empty, full, or a list of intervals.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
#include "ringweave/schedule/layout/layout.h"

namespace ringweave::schedule {

/// Sliding window: a query at p sees keys p - left … p + right. A side that is
/// absent is unlimited.
struct Window {
  std::optional<std::int64_t> left;
  std::optional<std::int64_t> right;
  friend bool operator==(const Window&, const Window&) = default;
};

class Mask {
 public:
  enum class Kind { full, causal };

  static Mask full() { return Mask(Kind::full, {}, {}); }
  static Mask causal() { return Mask(Kind::causal, {}, {}); }

  /// The same mask with a window, or with packed documents. `offsets` are the
  /// documents' first positions followed by the number of tokens, as in
  /// cu_seqlens: 0 = offsets[0] < offsets[1] < … ; throws InvalidArgument
  /// otherwise, and for a negative window.
  Mask with_window(Window window) const;
  Mask with_documents(std::vector<std::int64_t> offsets) const;

  Kind kind() const { return kind_; }
  bool is_causal() const { return kind_ == Kind::causal; }
  const Window& window() const { return window_; }
  /// Empty: the sequence is one document.
  const std::vector<std::int64_t>& document_offsets() const {
    return document_offsets_;
  }

  /// Neither window nor documents: full, or causal over the whole sequence.
  bool is_plain() const {
    return window_ == Window{} && document_offsets_.empty();
  }

  /// Throws InvalidArgument if there are documents and they do not end at
  /// `tokens`.
  void check_tokens(std::int64_t tokens) const;

  /// The positions of the keys that the query at `position` sees, among
  /// positions 0 … tokens - 1.
  Range visible_keys(std::int64_t position, std::int64_t tokens) const;

  /// Whether some query of `queries` sees some key of `keys`; exact.
  bool any_visible(const Run& queries, const Run& keys,
                   std::int64_t tokens) const;
  /// For each query the indices into `keys` that it sees.
  std::vector<Range> intervals(const Run& queries, const Run& keys,
                               std::int64_t tokens) const;
  /// Number of visible (query, key) pairs.
  std::int64_t area(const Run& queries, const Run& keys,
                    std::int64_t tokens) const;

  /// {"kind": "causal", "window": {"left": 3}, "document_offsets": [0, 9]}
  Json to_json() const;
  static Mask from_json(const Json& json, const std::string& path);

  friend bool operator==(const Mask&, const Mask&) = default;

 private:
  Mask(Kind kind, Window window, std::vector<std::int64_t> document_offsets)
      : kind_(kind),
        window_(window),
        document_offsets_(std::move(document_offsets)) {}

  Range document_of(std::int64_t position, std::int64_t tokens) const;

  Kind kind_;
  Window window_;
  std::vector<std::int64_t> document_offsets_;
};

}  // namespace ringweave::schedule
