#include "ringweave/schedule/mask/mask.h"

#include <algorithm>
#include <limits>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

/// Far beyond every position, and far from overflow when one is added.
constexpr std::int64_t kUnlimited =
    std::numeric_limits<std::int64_t>::max() / 4;

Run slice(const Run& run, const Range& indices) {
  return {run.at(indices.begin), indices.size(), run.stride};
}

/// Whether some key lies in [query - left, query + right] of some query.
bool any_within(const Run& queries, const Run& keys, std::int64_t left,
                std::int64_t right) {
  if (queries.length == 0 || keys.length == 0) return false;
  const std::int64_t nearest = keys.begin - (queries.end() - 1);
  const std::int64_t farthest = keys.end() - 1 - queries.begin;
  if (nearest > right || farthest < -left) return false;
  // The extreme pairs decide, unless both sides are limited and the allowed
  // differences fall between those that occur.
  if (nearest >= -left || farthest <= right) return true;
  if (queries.length <= keys.length) {
    for (std::int64_t i = 0; i < queries.length; ++i) {
      const std::int64_t q = queries.at(i);
      if (!keys.indices_in({q - left, q + right + 1}).empty()) return true;
    }
  } else {
    for (std::int64_t i = 0; i < keys.length; ++i) {
      const std::int64_t k = keys.at(i);
      if (!queries.indices_in({k - right, k + left + 1}).empty()) return true;
    }
  }
  return false;
}

/// Sum of ⌊(step·i + start) / divisor⌋ for i = 0 … count - 1, all numbers >= 0
/// and divisor > 0: the lattice points under a line, by Euclid's algorithm.
std::int64_t floor_sum(std::int64_t count, std::int64_t divisor,
                       std::int64_t step, std::int64_t start) {
  std::int64_t sum = 0;
  while (count > 0) {
    sum +=
        (count - 1) * count / 2 * (step / divisor) + count * (start / divisor);
    step %= divisor;
    start %= divisor;
    const std::int64_t last = step * count + start;
    count = last / divisor;
    start = last % divisor;
    std::swap(divisor, step);
  }
  return sum;
}

/// Number of pairs with key <= query + reach.
std::int64_t pairs_up_to(const Run& queries, const Run& keys,
                         std::int64_t reach) {
  if (queries.length == 0 || keys.length == 0) return 0;
  // Query i sees the first ⌊(i·stride + ahead) / keys.stride⌋ + 1 keys, but at
  // least none and at most all.
  const std::int64_t ahead = queries.begin + reach - keys.begin;
  const auto first_reaching = [&](std::int64_t distance) {
    const std::int64_t missing = distance - ahead;
    return missing <= 0
               ? 0
               : std::min(queries.length, (missing - 1) / queries.stride + 1);
  };
  const std::int64_t some = first_reaching(0);
  const std::int64_t all = first_reaching((keys.length - 1) * keys.stride);
  return (queries.length - all) * keys.length + (all - some) +
         floor_sum(all - some, keys.stride, queries.stride,
                   some * queries.stride + ahead);
}

std::int64_t pairs_within(const Run& queries, const Run& keys,
                          std::int64_t left, std::int64_t right) {
  return pairs_up_to(queries, keys, right) -
         pairs_up_to(queries, keys, -left - 1);
}

std::optional<std::int64_t> window_side(JsonObject& window,
                                        const std::string& side) {
  if (!window.has(side)) return {};
  return window.integer(side, 0);
}

}  // namespace

Mask Mask::with_window(Window window) const {
  for (const auto& side : {window.left, window.right}) {
    require(!side || (*side >= 0 && *side < kUnlimited),
            "[mask] got a window side of {}; want 0 … {}", *side,
            kUnlimited - 1);
  }
  return Mask(kind_, window, document_offsets_);
}

Mask Mask::with_documents(std::vector<std::int64_t> offsets) const {
  require(offsets.size() >= 2 && offsets.front() == 0 &&
              std::adjacent_find(offsets.begin(), offsets.end(),
                                 std::greater_equal<>()) == offsets.end(),
          "[mask] got document offsets {}; want at least two, ascending, the "
          "first 0 and the last the number of tokens",
          fmt::join(offsets, ", "));
  return Mask(kind_, window_, std::move(offsets));
}

void Mask::check_tokens(std::int64_t tokens) const {
  require(document_offsets_.empty() || document_offsets_.back() == tokens,
          "[mask] got document offsets that end at {}; want {}, the number of "
          "tokens",
          document_offsets_.empty() ? 0 : document_offsets_.back(), tokens);
}

Range Mask::document_of(std::int64_t position, std::int64_t tokens) const {
  if (document_offsets_.empty()) return {0, tokens};
  const auto next = std::upper_bound(document_offsets_.begin(),
                                     document_offsets_.end(), position);
  return {*std::prev(next), *next};
}

Range Mask::visible_keys(std::int64_t position, std::int64_t tokens) const {
  Range keys = document_of(position, tokens);
  if (window_.left) keys.begin = std::max(keys.begin, position - *window_.left);
  if (window_.right)
    keys.end = std::min(keys.end, position + *window_.right + 1);
  if (is_causal()) keys.end = std::min(keys.end, position + 1);
  return keys;
}

bool Mask::any_visible(const Run& queries, const Run& keys,
                       std::int64_t tokens) const {
  const std::int64_t left = window_.left.value_or(kUnlimited);
  const std::int64_t right =
      is_causal() ? 0 : window_.right.value_or(kUnlimited);
  if (document_offsets_.empty()) return any_within(queries, keys, left, right);
  // Only documents that both reach into can connect them.
  std::int64_t position = std::max(queries.begin, keys.begin);
  const std::int64_t end = std::min(queries.end(), keys.end());
  if (queries.length == 0 || keys.length == 0) return false;
  position = std::min(position, tokens - 1);
  for (Range document = document_of(position, tokens);;
       document = document_of(document.end, tokens)) {
    if (any_within(slice(queries, queries.indices_in(document)),
                   slice(keys, keys.indices_in(document)), left, right)) {
      return true;
    }
    if (document.end >= end || document.end >= tokens) return false;
  }
}

std::vector<Range> Mask::intervals(const Run& queries, const Run& keys,
                                   std::int64_t tokens) const {
  std::vector<Range> intervals(queries.length);
  for (std::int64_t i = 0; i < queries.length; ++i) {
    intervals[i] = keys.indices_in(visible_keys(queries.at(i), tokens));
  }
  return intervals;
}

std::int64_t Mask::area(const Run& queries, const Run& keys,
                        std::int64_t tokens) const {
  const std::int64_t left = window_.left.value_or(kUnlimited);
  const std::int64_t right = std::min(is_causal() ? 0 : kUnlimited,
                                      window_.right.value_or(kUnlimited));
  if (document_offsets_.empty())
    return pairs_within(queries, keys, left, right);
  if (queries.length == 0 || keys.length == 0) return 0;
  std::int64_t area = 0;
  const std::int64_t end = std::min(queries.end(), keys.end());
  Range document = document_of(std::max(queries.begin, keys.begin), tokens);
  while (true) {
    area += pairs_within(slice(queries, queries.indices_in(document)),
                         slice(keys, keys.indices_in(document)), left, right);
    if (document.end >= end) return area;
    document = document_of(document.end, tokens);
  }
}

Json Mask::to_json() const {
  Json json = {{"kind", is_causal() ? "causal" : "full"}};
  if (window_.left) json["window"]["left"] = *window_.left;
  if (window_.right) json["window"]["right"] = *window_.right;
  if (!document_offsets_.empty()) json["document_offsets"] = document_offsets_;
  return json;
}

Mask Mask::from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  Mask mask =
      object.choice("kind", {"full", "causal"}) == "causal" ? causal() : full();
  JsonObject window = object.object("window");
  mask = mask.with_window(
      {window_side(window, "left"), window_side(window, "right")});
  window.done();
  const bool has_documents = object.has("document_offsets");
  const auto offsets = object.integers("document_offsets", {{}});
  object.done();
  return has_documents ? mask.with_documents(offsets) : mask;
}

}  // namespace ringweave::schedule
