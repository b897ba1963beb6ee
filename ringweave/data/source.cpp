#include "ringweave/data/source.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/hash.h"
#include "ringweave/base/mapped_file.h"
#include "ringweave/base/splitmix.h"

namespace ringweave::data {
namespace {

struct Format {
  const char* name;
  bool bytes;  ///< whether tokens are bytes
  std::unique_ptr<const Source> (*open)(const std::string&,
                                        const SourceOptions&);
};

/// config::data_formats(), but auto.
constexpr std::array kFormats = {Format{"text", true, open_text},
                                 Format{"json_lines", true, open_json_lines},
                                 Format{"tokens", false, open_token_file},
                                 Format{"uint16", false, open_uint16},
                                 Format{"uint32", false, open_uint32}};

/// The format that a file's name tells; empty: none that is read.
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
  if (among(kNoText)) return "";
  if (among(kJsonLines)) return "json_lines";
  return extension == ".safetensors" ? "tokens" : "text";
}

const Format& format_of(const std::string& path, const std::string& format) {
  const std::string name = format == "auto" ? format_of_name(path) : format;
  require(!name.empty(),
          "[data.format] got auto for {}; want text, JSON lines (.jsonl) or a "
          "token file (.safetensors), or for plain numbers data.format uint16 "
          "or uint32",
          path);
  const auto found = std::ranges::find(kFormats, name, &Format::name);
  ensure(found != kFormats.end(), "no format {}", name);
  return *found;
}

/// There may be more files than a process may have mapped. So each is mapped
/// while it is read.
class Text final : public Source {
 public:
  Text(std::string path, bool ends)
      : path_(std::move(path)), ends_(ends), size_(size_of(map())) {}

  std::int64_t documents() const override { return 1; }
  std::int64_t offset(std::int64_t document) const override {
    return document == 0 ? 0 : size_ + (ends_ ? 1 : 0);
  }
  void read(const Range& tokens, std::int64_t* out) const override {
    const MappedFile file = map();
    require(size_of(file) == size_,
            "[{}] got {} bytes; want {}, as at the start", path_, size_of(file),
            size_);
    const auto text = file.bytes().subspan(
        static_cast<std::size_t>(tokens.begin),
        static_cast<std::size_t>(std::min(tokens.end, size_) - tokens.begin));
    out = std::ranges::transform(text, out, [](std::byte byte) {
            return std::to_integer<std::int64_t>(byte);
          }).out;
    if (tokens.end > size_) *out = kEndOfBytes;
  }
  std::string format() const override { return "text"; }
  std::string vocabulary() const override { return kByteVocabulary; }
  std::uint64_t hash(std::uint64_t state) const override {
    return hash_of(map(), state);
  }

 private:
  MappedFile map() const { return {path_, "a readable text file"}; }
  static std::int64_t size_of(const MappedFile& file) {
    return static_cast<std::int64_t>(file.bytes().size());
  }

  std::string path_;
  bool ends_;
  std::int64_t size_;
};

}  // namespace

std::int64_t Source::document_of(std::int64_t token) const {
  // The last one that starts at or before it: empty documents may start there
  // as well. It lies within low … high.
  std::int64_t low = 0, high = documents() - 1;
  while (low < high) {
    const std::int64_t middle = low + (high - low + 1) / 2;
    if (offset(middle) <= token) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
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

bool reads_bytes(const std::string& path, const std::string& format) {
  // Names of other files are of no run.
  if (format == "auto" && format_of_name(path).empty()) return false;
  return format_of(path, format).bytes;
}

std::uint64_t hash_of(std::span<const std::byte> bytes, std::uint64_t state) {
  constexpr std::size_t kWhole = 1 << 20;  ///< bytes of a small file
  constexpr std::size_t kBlock = 4096;
  constexpr std::uint64_t kBlocks = 64;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              bytes.size());
  state = fnv1a(fmt::format("{} ", text.size()), state);
  if (text.size() <= kWhole) return fnv1a_words(text, state);
  const std::size_t places = text.size() - kBlock + 1;
  for (std::uint64_t i = 0; i < kBlocks; ++i) {
    const std::size_t place = splitmix64(splitmix64(text.size()) ^ i) % places;
    state = fnv1a_words(text.substr(place, kBlock), state);
  }
  state = fnv1a_words(text.substr(0, kBlock), state);
  return fnv1a_words(text.substr(places - 1), state);
}

std::uint64_t hash_of(const MappedFile& file, std::uint64_t state) {
  state = hash_of(file.bytes(), state);
  file.drop(file.bytes());
  return state;
}

std::unique_ptr<const Source> open_text(const std::string& path,
                                        const SourceOptions& options) {
  return std::make_unique<Text>(path, options.vocab_size > kBytes);
}

}  // namespace ringweave::data
