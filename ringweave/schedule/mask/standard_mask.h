// Full and causal masks, with sliding windows and packed documents.
#pragma once

#include <vector>

#include "ringweave/schedule/mask/mask.h"

namespace ringweave::schedule {

class StandardMask final : public MaskRule {
 public:
  /// Throws InvalidArgument as Mask::with_window() and with_documents() do.
  StandardMask(bool causal, Window window,
               std::vector<std::int64_t> document_offsets);

  const Window& window() const { return window_; }
  const std::vector<std::int64_t>& document_offsets() const {
    return document_offsets_;
  }

  bool sees(std::int64_t query, std::int64_t key) const override;
  void add_areas(const Run& queries, const Run& keys,
                 std::vector<Area>& areas) const override;
  bool any_visible(const Run& queries, const Run& keys) const override;
  bool is_causal() const override { return causal_; }
  void check_tokens(std::int64_t tokens) const override;
  Json to_json() const override;
  std::string text() const override;

  static std::shared_ptr<const MaskRule> read(bool causal, JsonObject& object);

 private:
  /// The document that `position` lies in; behind the last one, the last one.
  Range document_of(std::int64_t position) const;
  /// Calls visit(queries, keys) for the indices of both runs that lie in each
  /// document, until it returns true; then returns true.
  template <typename Visit>
  bool visit_documents(const Run& queries, const Run& keys, Visit visit) const;

  bool causal_;
  Window window_;
  std::vector<std::int64_t> document_offsets_;
  std::int64_t left_;   ///< how far back a query sees
  std::int64_t right_;  ///< how far ahead
};

}  // namespace ringweave::schedule
