// Which keys a query may attend to.
//
// Positions are global token indices, never RoPE positions. A mask answers for
// a run of queries and a run of keys with few areas (area.h): everything else
// asks only for these. A kind of mask is one class, a MaskRule.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/area.h"

namespace ringweave::schedule {

/// Sliding window: a query at p sees keys p - left … p + right. A side that is
/// absent is unlimited.
struct Window {
  std::optional<std::int64_t> left;
  std::optional<std::int64_t> right;
  friend bool operator==(const Window&, const Window&) = default;
};

/// A kind of mask with its parameters. Immutable.
class MaskRule {
 public:
  virtual ~MaskRule() = default;

  /// The definition: whether the query at one position sees the key at another.
  virtual bool sees(std::int64_t query, std::int64_t key) const = 0;
  /// Appends areas that hold each visible pair of the two runs once, in indices
  /// of the runs. Few of them: a kernel is called for each. Every row of an
  /// area sees a key of it, but in a band of unequal strides.
  virtual void add_areas(const Run& queries, const Run& keys,
                         std::vector<Area>& areas) const = 0;
  /// Whether there is a visible pair. By default asks for the areas.
  virtual bool any_visible(const Run& queries, const Run& keys) const;
  /// Whether it is of a kind by which no query sees a key that comes after it.
  virtual bool is_causal() const = 0;
  /// Throws InvalidArgument if the mask is for another number of tokens.
  virtual void check_tokens(std::int64_t tokens) const {}
  /// {"kind": …}, as add_mask_kind()'s reader takes it.
  virtual Json to_json() const = 0;
  /// In a few words, for people.
  virtual std::string text() const = 0;
};

class StandardMask;  // standard_mask.h: full, causal, windows, documents

/// A mask of any kind. Immutable, and cheap to copy.
class Mask {
 public:
  static Mask full();
  static Mask causal();
  explicit Mask(std::shared_ptr<const MaskRule> rule)
      : rule_(std::move(rule)) {}

  /// The same mask with a window, or with packed documents. `offsets` are the
  /// documents' first positions followed by the number of tokens, as in
  /// cu_seqlens: 0 = offsets[0] < offsets[1] < … ; throws InvalidArgument
  /// otherwise, for a negative window, and for a mask that is neither full nor
  /// causal.
  Mask with_window(Window window) const;
  Mask with_documents(std::vector<std::int64_t> offsets) const;

  bool is_causal() const { return rule_->is_causal(); }
  /// Neither window nor documents: full, or causal over the whole sequence.
  bool is_plain() const;
  /// Every query sees every key.
  bool is_full() const { return is_plain() && !is_causal(); }
  /// Full, causal, or one of them with window and documents.
  bool is_standard() const { return standard() != nullptr; }
  /// Of a standard mask; of others without limits, and empty.
  const Window& window() const;
  /// Empty: the sequence is one document.
  const std::vector<std::int64_t>& document_offsets() const;

  void check_tokens(std::int64_t tokens) const { rule_->check_tokens(tokens); }

  bool sees(std::int64_t query, std::int64_t key) const {
    return rule_->sees(query, key);
  }
  void add_areas(const Run& queries, const Run& keys,
                 std::vector<Area>& areas) const {
    rule_->add_areas(queries, keys, areas);
  }
  std::vector<Area> areas(const Run& queries, const Run& keys) const;
  bool any_visible(const Run& queries, const Run& keys) const {
    return rule_->any_visible(queries, keys);
  }
  /// Number of visible (query, key) pairs.
  std::int64_t pairs(const Run& queries, const Run& keys) const;

  /// {"kind": "causal", "window": {"left": 3}, "document_offsets": [0, 9]}
  Json to_json() const { return rule_->to_json(); }
  static Mask from_json(const Json& json, const std::string& path);
  /// "causal", "full, window of 3 left and 4 right", "causal, 12 documents".
  std::string text() const { return rule_->text(); }

  /// Equal kinds with equal parameters.
  friend bool operator==(const Mask& a, const Mask& b) {
    return a.rule_ == b.rule_ || a.to_json() == b.to_json();
  }

 private:
  const StandardMask* standard() const;

  std::shared_ptr<const MaskRule> rule_;
};

/// Reads the parameters of a mask whose "kind" has been read. The caller checks
/// that no key is left.
using MaskReader =
    std::function<std::shared_ptr<const MaskRule>(JsonObject& object)>;

/// Makes Mask::from_json() know one more kind. Throws InvalidArgument if it
/// knows one of that name. Not while other threads read masks.
void add_mask_kind(const std::string& kind, MaskReader read);

}  // namespace ringweave::schedule
