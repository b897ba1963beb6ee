#include "ringweave/base/json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/file.h"

namespace ringweave {
namespace {

/// Copies and dumps recurse, so what is nested deeper could end the stack; no
/// file of ours comes near.
constexpr int kMaxDepth = 100;

/// "line 3, column 7" of the byte at `offset`, both counted from 1.
std::string place(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto newline = before.rfind('\n');
  const auto column = newline == std::string_view::npos
                          ? before.size() + 1
                          : before.size() - newline;
  return fmt::format("line {}, column {}", line, column);
}

constexpr std::size_t kLongest = 60;  ///< bytes of a value in an error text

/// The text as UTF-8: what is none is replaced.
std::string as_utf8(const std::string& text) {
  const std::string quoted =
      Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

/// What nlohmann says after its own "[json.exception…] … : " prefix.
std::string cause(const Json::exception& error) {
  std::string text = error.what();
  auto begin = text.find(": ");
  if (begin == std::string::npos) begin = text.find("] ");
  if (begin != std::string::npos) text = text.substr(begin + 2);
  constexpr std::size_t kMost = 3 * kLongest;
  if (text.size() > kMost) {
    text = text.substr(0, kMost - kLongest) + " … " +
           text.substr(text.size() - kLongest);
  }
  return as_utf8(text);  // it quotes what it could not read
}

/// A value for an error text: short, on one line, never throwing.
std::string shown(const Json& json) {
  if (json.is_number_float() && !std::isfinite(json.get<double>())) {
    return fmt::format("{}", json.get<double>());
  }
  std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "…";
  return text;
}

std::string quoted(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", word);
  }
  return text;
}

/// Edit distance with insertion, deletion, replacement and swap of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last;
  std::vector<std::size_t> last(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::vector<std::size_t> row(b.size() + 1, i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1,
                         last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    before_last = std::exchange(last, std::move(row));
  }
  return last.back();
}

[[noreturn]] void refuse(const std::string& path, const std::string& got,
                         const std::string& want) {
  throw InvalidArgument(fmt::format("[{}] got {}; want {}", path, got, want));
}

std::int64_t to_integer(const Json& json, const std::string& path,
                        std::int64_t min) {
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  std::string want = "an integer";
  if (min != std::numeric_limits<std::int64_t>::min()) {
    want += fmt::format(" ≥ {}", min);
  }
  if (json.is_number_float()) {
    refuse(path, shown(json), want + ", written without point or exponent");
  }
  if (!json.is_number_integer()) refuse(path, shown(json), want);
  if (json.is_number_unsigned() &&
      json.get<std::uint64_t>() > static_cast<std::uint64_t>(kMax)) {
    refuse(path, shown(json), fmt::format("an integer ≤ {}", kMax));
  }
  const auto value = json.get<std::int64_t>();
  if (value < min) refuse(path, shown(json), want);
  return value;
}

std::string to_string(const Json& json, const std::string& path) {
  if (!json.is_string()) refuse(path, shown(json), "a string");
  return json.get<std::string>();
}

/// Of valid UTF-8: U+0000 … U+001F and U+007F … U+009F.
bool has_control(std::string_view text) {
  constexpr unsigned char kFirstPrinted = 0x20, kDelete = 0x7f;
  constexpr unsigned char kLead = 0xc2, kFirstBeyond = 0xa0;
  unsigned char last = 0;
  for (const unsigned char byte : text) {
    if (byte < kFirstPrinted || byte == kDelete) return true;
    if (last == kLead && byte < kFirstBeyond) return true;
    last = byte;
  }
  return false;
}

std::string item_path(const std::string& path, std::size_t i) {
  return fmt::format("{}[{}]", path, i);
}

}  // namespace

Json parse_json(std::string_view text, const std::string& name) {
  // The keys of the objects that are open, to refuse doubled ones, of which
  // the library would silently take the last.
  std::vector<std::set<std::string>> open;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    const bool opens = event == Json::parse_event_t::object_start ||
                       event == Json::parse_event_t::array_start;
    if (opens && depth >= kMaxDepth) {
      refuse(name, fmt::format("values nested more than {} deep", kMaxDepth),
             fmt::format("at most {} levels", kMaxDepth));
    }
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key &&
        !open.back().insert(value.get<std::string>()).second) {
      refuse(name, "the key " + shown(value) + " twice in one object",
             "each key once");
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::parse_error& error) {
    const std::size_t offset = error.byte == 0 ? 0 : error.byte - 1;
    throw InvalidArgument(
        fmt::format("[{}] got a syntax error at {}: {}; want JSON", name,
                    place(text, std::min(offset, text.size())), cause(error)));
  } catch (const Json::exception& error) {
    refuse(name, cause(error), "numbers that a double can hold");
  }
}

Json read_json_file(const std::string& path) {
  return parse_json(read_file(path, "a readable JSON file"), path);
}

std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& known) {
  constexpr std::size_t kFar = std::numeric_limits<std::size_t>::max();
  constexpr std::size_t kPrefix = 3;  // letters that tell a word by its start
  std::size_t best = kFar;
  std::optional<std::string> found;
  for (const std::string& candidate : known) {
    std::size_t distance = edit_distance(word, candidate);
    const bool prefix =
        std::min(word.size(), candidate.size()) >= kPrefix &&
        (candidate.starts_with(word) || word.starts_with(candidate));
    const std::size_t near = (std::max(word.size(), candidate.size()) + 2) / 3;
    if (distance > near && !prefix) continue;
    if (distance < best) {
      best = distance;
      found = candidate;
    }
  }
  return found;
}

std::size_t place_of(const std::string& word,
                     const std::vector<std::string>& known,
                     const std::string& where) {
  const auto found = std::find(known.begin(), known.end(), word);
  if (found != known.end()) {
    return static_cast<std::size_t>(found - known.begin());
  }
  std::vector<std::string> listed = known;
  std::stable_sort(listed.begin(), listed.end(),
                   [&](const std::string& a, const std::string& b) {
                     return edit_distance(word, a) < edit_distance(word, b);
                   });
  refuse(where, shown(word), "one of " + quoted(listed));
}

JsonObject::JsonObject(const Json& json, std::string path)
    : json_(&json), path_(std::move(path)) {
  if (!json.is_object()) refuse(path_, shown(json), "an object {…}");
}

bool JsonObject::has(const std::string& key) {
  asked_.insert(key);
  return json_->contains(key);
}

const Json& JsonObject::value(const std::string& key) {
  known_.insert(key);
  const auto found = json_->find(key);
  if (found != json_->end()) return *found;
  // A misspelt key is there, and nobody has asked for it.
  std::vector<std::string> others;
  for (const auto& item : json_->items()) {
    if (!known_.contains(item.key())) others.push_back(item.key());
  }
  const auto near = nearest(key, others);
  refuse(path_ + "." + key,
         near ? "nothing, but there is " + shown(Json(*near)) : "nothing",
         "this key; it has no default");
}

std::int64_t JsonObject::integer(const std::string& key, std::int64_t min,
                                 std::optional<std::int64_t> fallback) {
  known_.insert(key);
  if (!json_->contains(key) && fallback) return *fallback;
  return to_integer(value(key), path_ + "." + key, min);
}

double JsonObject::number(const std::string& key, double min,
                          std::optional<double> fallback) {
  known_.insert(key);
  if (!json_->contains(key) && fallback) return *fallback;
  const Json& json = value(key);
  std::string want = "a finite number";
  if (min != -std::numeric_limits<double>::infinity()) {
    want += fmt::format(" ≥ {}", min);
  }
  if (!json.is_number() || !std::isfinite(json.get<double>()) ||
      json.get<double>() < min) {
    refuse(path_ + "." + key, shown(json), want);
  }
  return json.get<double>();
}

bool JsonObject::boolean(const std::string& key, std::optional<bool> fallback) {
  known_.insert(key);
  if (!json_->contains(key) && fallback) return *fallback;
  const Json& json = value(key);
  if (!json.is_boolean()) {
    refuse(path_ + "." + key, shown(json), "true or false");
  }
  return json.get<bool>();
}

std::string JsonObject::string(const std::string& key,
                               std::optional<std::string> fallback) {
  known_.insert(key);
  if (!json_->contains(key) && fallback) return *fallback;
  return to_string(value(key), path_ + "." + key);
}

std::string JsonObject::line(const std::string& key,
                             std::optional<std::string> fallback) {
  std::string text = string(key, std::move(fallback));
  if (has_control(text)) {
    refuse(path_ + "." + key, shown(Json(text)), "no control characters");
  }
  return text;
}

std::string JsonObject::name(const std::string& key,
                             std::optional<std::string> fallback) {
  std::string text = line(key, std::move(fallback));
  if (text.empty()) refuse(path_ + "." + key, "\"\"", "a name");
  return text;
}

std::string JsonObject::choice(const std::string& key,
                               const std::vector<std::string>& words,
                               std::optional<std::string> fallback) {
  known_.insert(key);
  if (!json_->contains(key) && fallback) return *fallback;
  const Json& json = value(key);
  const std::string path = path_ + "." + key;
  if (!json.is_string()) refuse(path, shown(json), "one of " + quoted(words));
  return words[place_of(json.get<std::string>(), words, path)];
}

std::vector<std::int64_t> JsonObject::integers(
    const std::string& key, std::optional<std::vector<std::int64_t>> fallback) {
  known_.insert(key);
  if (!json_->contains(key) && fallback) return *fallback;
  const Json& json = value(key);
  const std::string path = path_ + "." + key;
  if (!json.is_array()) refuse(path, shown(json), "a list of integers […]");
  std::vector<std::int64_t> items;
  for (std::size_t i = 0; i < json.size(); ++i) {
    items.push_back(to_integer(json[i], item_path(path, i),
                               std::numeric_limits<std::int64_t>::min()));
  }
  return items;
}

std::vector<std::string> JsonObject::strings(
    const std::string& key, std::optional<std::vector<std::string>> fallback) {
  known_.insert(key);
  if (!json_->contains(key) && fallback) return *fallback;
  const Json& json = value(key);
  const std::string path = path_ + "." + key;
  if (!json.is_array()) refuse(path, shown(json), "a list of strings […]");
  std::vector<std::string> items;
  for (std::size_t i = 0; i < json.size(); ++i) {
    items.push_back(to_string(json[i], item_path(path, i)));
  }
  return items;
}

JsonObject JsonObject::object(const std::string& key) {
  static const Json kEmpty = Json::object();
  known_.insert(key);
  return JsonObject(json_->contains(key) ? json_->at(key) : kEmpty,
                    path_ + "." + key);
}

void JsonObject::done() const {
  for (const auto& item : json_->items()) {
    if (known_.contains(item.key())) continue;
    std::set<std::string> all = known_;
    all.insert(asked_.begin(), asked_.end());
    const std::vector<std::string> known(all.begin(), all.end());
    const auto near = nearest(item.key(), known);
    refuse(path_, "the unknown key " + shown(Json(item.key())),
           near ? fmt::format("\"{}\"?", *near) : "one of " + quoted(known));
  }
}

void check_format(JsonObject& object, const std::string& format, int version) {
  const std::string got = object.string("format");
  if (got != format) {
    refuse(object.path() + ".format", shown(Json(got)), "\"" + format + "\"");
  }
  const auto number = object.integer("version", 1);
  if (number != version) {
    refuse(object.path() + ".version", fmt::format("{}", number),
           fmt::format("{}, the one this program reads", version));
  }
}

}  // namespace ringweave
