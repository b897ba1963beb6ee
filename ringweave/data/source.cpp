#include "ringweave/data/source.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <ranges>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/mapped_file.h"

namespace ringweave::data {
namespace {

struct Format {
  const char* name;
  std::unique_ptr<const Source> (*open)(const std::string&,
                                        const SourceOptions&);
  bool bytes;  ///< tokens are bytes
};

constexpr std::array kFormats = {
    Format{"text", open_text, true},
    Format{"json_lines", open_json_lines, true},
    Format{"tokens", open_token_file, false},
    Format{"uint16", open_uint16, false},
    Format{"uint32", open_uint32, false},
};

/// The format that a file's name tells.
std::string format_of_name(const std::string& path) {
  constexpr std::array kJsonLines = {".jsonl", ".ndjson"};
  // Nobody means to train on the bytes of these.
  constexpr std::array kNoText = {".bin", ".gz",      ".zst",   ".xz",
                                  ".bz2", ".zip",     ".tar",   ".npy",
                                  ".npz", ".parquet", ".arrow", ".idx"};
  std::string extension = std::filesystem::path(path).extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  const auto among = [&](const auto& names) {
    return std::ranges::find(names, extension) != names.end();
  };
  require(!among(kNoText),
          "[data.format] got auto for {}; want text, JSON lines (.jsonl) or a "
          "token file (.safetensors), or for plain numbers data.format uint16 "
          "or uint32",
          path);
  if (among(kJsonLines)) return "json_lines";
  return extension == ".safetensors" ? "tokens" : "text";
}

const Format& format_of(const std::string& path, const std::string& format) {
  const std::string name = format == "auto" ? format_of_name(path) : format;
  const auto found = std::ranges::find(kFormats, name, &Format::name);
  ensure(found != kFormats.end(), "no format {}", name);
  return *found;
}

class Text final : public Source {
 public:
  Text(const std::string& path, bool ends)
      : file_(path, "a readable text file"), ends_(ends) {}

  std::int64_t documents() const override { return 1; }
  std::int64_t offset(std::int64_t document) const override {
    return document == 0 ? 0 : size() + (ends_ ? 1 : 0);
  }
  void read(const Range& tokens, std::int64_t* out) const override {
    const auto text = bytes().subspan(
        static_cast<std::size_t>(tokens.begin),
        static_cast<std::size_t>(std::min(tokens.end, size()) - tokens.begin));
    out = std::ranges::transform(text, out, [](std::byte byte) {
            return std::to_integer<std::int64_t>(byte);
          }).out;
    if (tokens.end > size()) *out = kEndOfBytes;
    file_.drop(text);
  }
  std::span<const std::byte> bytes() const override { return file_.bytes(); }
  void drop() const override { file_.drop(bytes()); }

 private:
  std::int64_t size() const {
    return static_cast<std::int64_t>(file_.bytes().size());
  }

  MappedFile file_;
  bool ends_;
};

}  // namespace

std::int64_t Source::document_of(std::int64_t token) const {
  // The last one that starts at or before it: empty documents may start there
  // as well.
  const auto indices = std::views::iota(std::int64_t{1}, documents());
  return *std::ranges::partition_point(indices, [&](std::int64_t i) {
    return offset(i) <= token;
  }) - 1;
}

std::unique_ptr<const Source> open_source(const std::string& path,
                                          const SourceOptions& options) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  require(!error, "[data] got {}: {}; want a file that can be read", path,
          error.message());
  require(size > 0, "[data] got an empty file {}; want text or tokens in it",
          path);
  return format_of(path, options.format).open(path, options);
}

bool holds_bytes(const std::string& path, const std::string& format) {
  return format_of(path, format).bytes;
}

std::unique_ptr<const Source> open_text(const std::string& path,
                                        const SourceOptions& options) {
  return std::make_unique<Text>(path, options.vocab_size > kBytes);
}

}  // namespace ringweave::data
