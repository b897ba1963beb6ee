#include "ringweave/schedule/mask/mask.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/mask/standard_mask.h"

namespace ringweave::schedule {
namespace {

std::map<std::string, MaskReader>& readers() {
  static std::map<std::string, MaskReader> readers = {
      {"full",
       [](JsonObject& object) { return StandardMask::read(false, object); }},
      {"causal",
       [](JsonObject& object) { return StandardMask::read(true, object); }}};
  return readers;
}

Mask standard_mask(bool causal, Window window = {},
                   std::vector<std::int64_t> offsets = {}) {
  return Mask(
      std::make_shared<const StandardMask>(causal, window, std::move(offsets)));
}

}  // namespace

bool MaskRule::any_visible(const Run& queries, const Run& keys) const {
  std::vector<Area> areas;
  add_areas(queries, keys, areas);
  return std::ranges::any_of(areas,
                             [](const Area& area) { return area.pairs() > 0; });
}

Mask Mask::full() {
  static const Mask mask = standard_mask(false);
  return mask;
}

Mask Mask::causal() {
  static const Mask mask = standard_mask(true);
  return mask;
}

const StandardMask* Mask::standard() const {
  return dynamic_cast<const StandardMask*>(rule_.get());
}

Mask Mask::with_window(Window window) const {
  require(is_standard(),
          "[mask] got a window for {}; want a full or causal mask", text());
  return standard_mask(is_causal(), window, document_offsets());
}

Mask Mask::with_documents(std::vector<std::int64_t> offsets) const {
  require(is_standard(),
          "[mask] got documents for {}; want a full or causal mask", text());
  require(!offsets.empty(),
          "[mask] got no document offsets; want at least two");
  return standard_mask(is_causal(), window(), std::move(offsets));
}

bool Mask::is_plain() const {
  return is_standard() && window() == Window{} && document_offsets().empty();
}

const Window& Mask::window() const {
  static const Window none;
  const StandardMask* mask = standard();
  return mask ? mask->window() : none;
}

const std::vector<std::int64_t>& Mask::document_offsets() const {
  static const std::vector<std::int64_t> none;
  const StandardMask* mask = standard();
  return mask ? mask->document_offsets() : none;
}

std::vector<Area> Mask::areas(const Run& queries, const Run& keys) const {
  std::vector<Area> areas;
  add_areas(queries, keys, areas);
  return areas;
}

std::int64_t Mask::pairs(const Run& queries, const Run& keys) const {
  const std::vector<Area> all = areas(queries, keys);
  return std::accumulate(
      all.begin(), all.end(), std::int64_t{0},
      [](std::int64_t sum, const Area& area) { return sum + area.pairs(); });
}

Mask Mask::from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  std::vector<std::string> kinds;
  for (const auto& [kind, read] : readers()) kinds.push_back(kind);
  Mask mask(readers().at(object.choice("kind", kinds))(object));
  object.done();
  return mask;
}

void add_mask_kind(const std::string& kind, MaskReader read) {
  require(readers().emplace(kind, std::move(read)).second,
          "[mask] got a second kind \"{}\"; want names that differ", kind);
}

}  // namespace ringweave::schedule
