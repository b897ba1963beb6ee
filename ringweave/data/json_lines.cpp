#include <algorithm>
#include <exception>
#include <optional>
#include <string_view>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/base/mapped_file.h"
#include "ringweave/base/parallel.h"
#include "ringweave/data/source.h"

namespace ringweave::data {
namespace {

/// Where a document's line starts in the file, and its first token among all.
struct Line {
  std::size_t begin;
  std::int64_t tokens_before;
};

class JsonLines final : public Source {
 public:
  JsonLines(const std::string& path, const SourceOptions& options)
      : path_(path),
        field_(options.text_field),
        end_(options.vocab_size > kBytes ? 1 : 0),
        file_(path, "a readable file of JSON lines") {
    index();
    require(documents() > 0,
            "[{}] got no document; want JSON objects, one to a line", path);
  }

  std::int64_t documents() const override {
    return static_cast<std::int64_t>(lines_.size()) - 1;
  }
  std::int64_t offset(std::int64_t document) const override {
    return lines_[static_cast<std::size_t>(document)].tokens_before;
  }
  void read(const Range& tokens, std::int64_t* out) const override {
    std::int64_t at = tokens.begin;
    for (std::int64_t i = document_of(at); at < tokens.end; ++i) {
      const std::size_t begin = lines_[static_cast<std::size_t>(i)].begin;
      const std::string document = document_at(begin);
      const std::int64_t first = offset(i);
      for (; at < std::min(tokens.end, offset(i + 1)); ++at) {
        const auto place = static_cast<std::size_t>(at - first);
        *out++ = place < document.size()
                     ? static_cast<unsigned char>(document[place])
                     : kEndOfBytes;
      }
      file_.drop(std::as_bytes(std::span(line_at(begin))));
    }
  }
  std::string format() const override { return "json_lines"; }
  std::string vocabulary() const override { return kByteVocabulary; }
  std::uint64_t hash(std::uint64_t state) const override {
    return hash_of(file_, state);
  }

 private:
  std::string_view text() const {
    return {reinterpret_cast<const char*>(file_.bytes().data()),
            file_.bytes().size()};
  }

  std::string_view line_at(std::size_t begin) const {
    const std::string_view rest = text().substr(begin);
    return rest.substr(0, rest.find('\n'));
  }

  std::string document_at(std::size_t begin) const {
    const auto read_as = [&](const std::string& name) {
      const Json json = parse_json(line_at(begin), name);
      return JsonObject(json, name).string(field_);
    };
    try {
      return read_as("line");
    } catch (const InvalidArgument&) {
      // Its number is counted for an error alone.
      const auto before = text().substr(0, begin);
      return read_as(fmt::format("{}: line {}", path_,
                                 1 + std::ranges::count(before, '\n')));
    }
  }

  /// Finds the documents of the lines that start in a range of bytes, without
  /// tokens_before.
  struct Found {
    std::vector<std::size_t> begins;
    std::vector<std::int64_t> sizes;
    std::exception_ptr fault;
  };
  Found find(const Range& range) const {
    Found found;
    auto at = static_cast<std::size_t>(range.begin);
    const auto end = static_cast<std::size_t>(range.end);
    if (at > 0) {  // to the first line that starts here
      const auto newline = text().substr(0, end).find('\n', at - 1);
      at = newline == std::string_view::npos ? end : newline + 1;
    }
    try {
      while (at < end) {
        const std::string_view line = line_at(at);
        if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
          found.begins.push_back(at);
          found.sizes.push_back(
              static_cast<std::int64_t>(document_at(at).size()) + end_);
        }
        at += line.size() + 1;
      }
    } catch (...) {
      found.fault = std::current_exception();
    }
    file_.drop(file_.bytes().subspan(static_cast<std::size_t>(range.begin),
                                     static_cast<std::size_t>(range.size())));
    return found;
  }

  /// Reads the whole file, to know its documents and that all can be read.
  void index() {
    constexpr std::int64_t kPieceBytes = 1 << 22;
    const auto size = static_cast<std::int64_t>(text().size());
    const auto pieces = static_cast<int>(ceil_div(size, kPieceBytes));
    std::vector<Found> found(static_cast<std::size_t>(pieces));
    for_each_on_all_cores(pieces, [&](int i) {
      found[static_cast<std::size_t>(i)] = find(cut({0, size}, i, pieces));
    });
    std::int64_t tokens = 0;
    for (const Found& piece : found) {
      // The first one of the file.
      if (piece.fault) std::rethrow_exception(piece.fault);
      for (std::size_t i = 0; i < piece.begins.size(); ++i) {
        lines_.push_back({piece.begins[i], tokens});
        tokens += piece.sizes[i];
      }
    }
    lines_.push_back({text().size(), tokens});
  }

  std::string path_;
  std::string field_;
  std::int64_t end_;  ///< tokens behind a document
  MappedFile file_;
  std::vector<Line> lines_;  ///< and one behind the last
};

}  // namespace

std::unique_ptr<const Source> open_json_lines(const std::string& path,
                                              const SourceOptions& options) {
  return std::make_unique<JsonLines>(path, options);
}

}  // namespace ringweave::data
