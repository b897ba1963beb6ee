// Reading JSON strictly: a schema is the code that reads the fields.
//
//   JsonObject object(json, "config.model");
//   const int layers = object.integer("layers", 1);
//   object.done();  // an unread key is an error that names the nearest field
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace ringweave {

using Json = nlohmann::ordered_json;

/// Parses text or the file at `path`, up to 100 levels deep; InvalidArgument
/// names file, line and column of a syntax error, or what else is wrong.
Json parse_json(std::string_view text, const std::string& name);
Json read_json_file(const std::string& path);

/// The word of `known` nearest to `word` by edit distance; nullopt if none is
/// near enough to be what was meant.
std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& known);

/// The place of `word` in `known`. Throws InvalidArgument, whose text starts
/// with [where] and lists the known words, the nearest one first.
std::size_t place_of(const std::string& word,
                     const std::vector<std::string>& known,
                     const std::string& where);

/// One object being read. Every getter throws InvalidArgument, naming the
/// field's path, what was got and what is wanted, if the value has another type
/// or lies out of range, or if it is absent and has no default.
class JsonObject {
 public:
  /// `path` names the object in errors. Throws unless `json` is an object.
  /// `json` must outlive this.
  JsonObject(const Json& json, std::string path);

  /// Does not count as reading it: done() refuses a key that was only looked
  /// for.
  bool has(const std::string& key);
  const std::string& path() const { return path_; }

  std::int64_t integer(const std::string& key, std::int64_t min,
                       std::optional<std::int64_t> fallback = {});
  double number(const std::string& key, double min,
                std::optional<double> fallback = {});
  bool boolean(const std::string& key, std::optional<bool> fallback = {});
  std::string string(const std::string& key,
                     std::optional<std::string> fallback = {});
  /// A string to print as it is: without control characters, which could do
  /// anything to a terminal. A name is not empty either.
  std::string line(const std::string& key,
                   std::optional<std::string> fallback = {});
  std::string name(const std::string& key,
                   std::optional<std::string> fallback = {});
  /// One of `words`; the error lists them, nearest first.
  std::string choice(const std::string& key,
                     const std::vector<std::string>& words,
                     std::optional<std::string> fallback = {});
  std::vector<std::int64_t> integers(
      const std::string& key,
      std::optional<std::vector<std::int64_t>> fallback = {});
  std::vector<std::string> strings(
      const std::string& key,
      std::optional<std::vector<std::string>> fallback = {});
  /// The raw value, marked as read; throws if absent.
  const Json& value(const std::string& key);
  /// A nested object; an absent one reads as {}.
  JsonObject object(const std::string& key);

  /// Throws InvalidArgument if the object has a key that no getter asked for.
  void done() const;

 private:
  const Json* json_;
  std::string path_;
  std::set<std::string> known_;  ///< read
  std::set<std::string> asked_;  ///< looked for; named as what there may be
};

/// Checks {"format": format, "version": version} of a file's object.
void check_format(JsonObject& object, const std::string& format, int version);

}  // namespace ringweave
