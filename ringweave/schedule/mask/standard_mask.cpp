#include "ringweave/schedule/mask/standard_mask.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

Run slice(const Run& run, const Range& indices) {
  return {run.at(indices.begin), indices.size(), run.stride};
}

std::optional<std::int64_t> window_side(JsonObject& window,
                                        const std::string& side) {
  if (!window.has(side)) return {};
  return window.integer(side, 0);
}

}  // namespace

StandardMask::StandardMask(bool causal, Window window,
                           std::vector<std::int64_t> document_offsets)
    : causal_(causal),
      window_(window),
      document_offsets_(std::move(document_offsets)),
      left_(window.left.value_or(kUnlimited)),
      right_(std::min(causal ? 0 : kUnlimited,
                      window.right.value_or(kUnlimited))) {
  for (const auto& side : {window.left, window.right}) {
    require(!side || (*side >= 0 && *side < kUnlimited),
            "[mask] got a window side of {}; want 0 … {}", *side,
            kUnlimited - 1);
  }
  const std::vector<std::int64_t>& offsets = document_offsets_;
  require(offsets.empty() ||
              (offsets.size() >= 2 && offsets.front() == 0 &&
               std::adjacent_find(offsets.begin(), offsets.end(),
                                  std::greater_equal<>()) == offsets.end()),
          "[mask] got document offsets {}; want at least two, ascending, the "
          "first 0 and the last the number of tokens",
          fmt::join(offsets, ", "));
}

Range StandardMask::document_of(std::int64_t position) const {
  const auto next = std::upper_bound(document_offsets_.begin(),
                                     document_offsets_.end() - 1, position);
  return {*std::prev(next), *next};
}

template <typename Visit>
bool StandardMask::visit_documents(const Run& queries, const Run& keys,
                                   Visit visit) const {
  if (queries.length == 0 || keys.length == 0) return false;
  if (document_offsets_.empty()) {
    return visit(Range{0, queries.length}, Range{0, keys.length});
  }
  // Only documents that both reach into can connect them. Behind the last
  // document nothing does.
  const std::int64_t end =
      std::min({queries.end(), keys.end(), document_offsets_.back()});
  Range document = document_of(std::max(queries.begin, keys.begin));
  while (true) {
    const Range rows = queries.indices_in(document);
    const Range columns = keys.indices_in(document);
    if (!rows.empty() && !columns.empty() && visit(rows, columns)) return true;
    if (document.end >= end) return false;
    document = document_of(document.end);
  }
}

bool StandardMask::sees(std::int64_t query, std::int64_t key) const {
  if (key - query > right_ || query - key > left_) return false;
  return document_offsets_.empty() ||
         (std::max(query, key) < document_offsets_.back() &&
          document_of(query) == document_of(key));
}

void StandardMask::add_areas(const Run& queries, const Run& keys,
                             std::vector<Area>& areas) const {
  visit_documents(queries, keys, [&](const Range& rows, const Range& columns) {
    const std::size_t first = areas.size();
    add_band_areas(slice(queries, rows), slice(keys, columns), left_, right_,
                   areas);
    for (std::size_t i = first; i < areas.size(); ++i) {
      areas[i].rows = moved(areas[i].rows, rows.begin);
      areas[i].keys = moved(areas[i].keys, columns.begin);
    }
    return false;
  });
}

bool StandardMask::any_visible(const Run& queries, const Run& keys) const {
  return visit_documents(
      queries, keys, [&](const Range& rows, const Range& columns) {
        return any_in_band(slice(queries, rows), slice(keys, columns), left_,
                           right_);
      });
}

void StandardMask::check_tokens(std::int64_t tokens) const {
  require(document_offsets_.empty() || document_offsets_.back() == tokens,
          "[mask] got document offsets that end at {}; want {}, the number of "
          "tokens",
          document_offsets_.empty() ? 0 : document_offsets_.back(), tokens);
}

Json StandardMask::to_json() const {
  Json json = {{"kind", causal_ ? "causal" : "full"}};
  if (window_.left) json["window"]["left"] = *window_.left;
  if (window_.right) json["window"]["right"] = *window_.right;
  if (!document_offsets_.empty()) json["document_offsets"] = document_offsets_;
  return json;
}

std::string StandardMask::text() const {
  std::string text = causal_ ? "causal" : "full";
  std::vector<std::string> sides;
  if (window_.left) sides.push_back(fmt::format("{} left", *window_.left));
  if (window_.right) sides.push_back(fmt::format("{} right", *window_.right));
  if (!sides.empty()) {
    text += fmt::format(", window of {}", fmt::join(sides, " and "));
  }
  if (!document_offsets_.empty()) {
    text += fmt::format(", {} documents", document_offsets_.size() - 1);
  }
  return text;
}

std::shared_ptr<const MaskRule> StandardMask::read(bool causal,
                                                   JsonObject& object) {
  JsonObject window = object.object("window");
  const Window sides = {window_side(window, "left"),
                        window_side(window, "right")};
  window.done();
  const bool has_documents = object.has("document_offsets");
  std::vector<std::int64_t> offsets = object.integers("document_offsets", {{}});
  require(!has_documents || !offsets.empty(),
          "[mask] got no document offsets; want at least two");
  return std::make_shared<const StandardMask>(causal, sides,
                                              std::move(offsets));
}

}  // namespace ringweave::schedule
