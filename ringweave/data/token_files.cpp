// Files of tokens that a tokenizer made, read where they lie.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/base/mapped_file.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/data/source.h"

namespace ringweave::data {
namespace {

/// Of little-endian numbers that need not be aligned.
template <typename Number>
std::int64_t number_at(std::span<const std::byte> bytes, std::int64_t index) {
  Number number;
  std::memcpy(&number,
              bytes.data() + static_cast<std::size_t>(index) * sizeof(number),
              sizeof(number));
  return static_cast<std::int64_t>(number);
}

constexpr const char* kTokenizerHash = "tokenizer_sha256";

/// Throws InvalidArgument for a token that the model does not know.
void check_token(const std::string& path, std::int64_t place,
                 std::int64_t token, std::int64_t vocab_size) {
  require(token < vocab_size,
          "[{}] got token {} at place {}; want less than {}, the vocabulary",
          path, token, place, vocab_size);
}

template <typename Number>
void read_numbers(const MappedFile& file, const std::string& path,
                  std::span<const std::byte> bytes, const Range& tokens,
                  std::int64_t vocab_size, std::int64_t* out) {
  for (std::int64_t i = tokens.begin; i < tokens.end; ++i) {
    *out = number_at<Number>(bytes, i);
    check_token(path, i, *out++, vocab_size);
  }
  file.drop(
      bytes.subspan(static_cast<std::size_t>(tokens.begin) * sizeof(Number),
                    static_cast<std::size_t>(tokens.size()) * sizeof(Number)));
}

template <typename Number>
class PlainTokens final : public Source {
 public:
  PlainTokens(const std::string& path, const SourceOptions& options)
      : path_(path),
        vocab_size_(options.vocab_size),
        file_(path, "a readable file of tokens") {
    require(bytes().size() % sizeof(Number) == 0,
            "[{}] got {} bytes; want a multiple of {}, the bytes of a token",
            path, bytes().size(), sizeof(Number));
    require(!options.documents || options.end_token,
            "[data.end_token] got none for {}, where documents have no other "
            "mark; want the token that ends one",
            path);
    const auto size =
        static_cast<std::int64_t>(bytes().size() / sizeof(Number));
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t token = number_at<Number>(bytes(), i);
      check_token(path, i, token, vocab_size_);
      if (token == options.end_token) offsets_.push_back(i + 1);
      constexpr std::int64_t kOften = 1 << 22;
      if (i % kOften == 0) file_.drop(bytes());
    }
    file_.drop(bytes());
    require(!options.end_token || offsets_.size() > 1,
            "[data.end_token] got {}, which {} does not have; want the token "
            "that ends each document",
            options.end_token.value_or(0), path);
    if (offsets_.back() != size) offsets_.push_back(size);
  }

  std::int64_t documents() const override {
    return static_cast<std::int64_t>(offsets_.size()) - 1;
  }
  std::int64_t offset(std::int64_t document) const override {
    return offsets_[static_cast<std::size_t>(document)];
  }
  void read(const Range& tokens, std::int64_t* out) const override {
    read_numbers<Number>(file_, path_, bytes(), tokens, vocab_size_, out);
  }
  std::string format() const override {
    return fmt::format("uint{}", 8 * sizeof(Number));
  }
  std::string vocabulary() const override { return "plain numbers"; }
  std::uint64_t hash(std::uint64_t state) const override {
    return hash_of(file_, state);
  }

 private:
  std::span<const std::byte> bytes() const { return file_.bytes(); }

  std::string path_;
  std::int64_t vocab_size_;
  MappedFile file_;
  std::vector<std::int64_t> offsets_ = {0};
};

class TokenFile final : public Source {
 public:
  TokenFile(const std::string& path, const SourceOptions& options)
      : file_(path), vocab_size_(options.vocab_size) {
    check_metadata();
    const checkpoint::NamedTensor& tokens = tensor("tokens");
    wide_ = tokens.type == checkpoint::DataType::uint32;
    require((wide_ || tokens.type == checkpoint::DataType::uint16) &&
                tokens.shape.size() == 1,
            "[{}] got tokens as {}; want uint16 or uint32 in one dimension",
            path, checkpoint::describe(tokens));
    tokens_ = tokens.data;
    const checkpoint::NamedTensor& offsets = tensor("document_offsets");
    require(offsets.type == checkpoint::DataType::int64 &&
                offsets.shape.size() == 1,
            "[{}] got document_offsets as {}; want int64 in one dimension",
            path, checkpoint::describe(offsets));
    offsets_ = offsets.data;
    check_offsets(tokens.shape[0], offsets.shape[0]);
  }

  std::int64_t documents() const override {
    return static_cast<std::int64_t>(offsets_.size() / sizeof(std::int64_t)) -
           1;
  }
  std::int64_t offset(std::int64_t document) const override {
    return number_at<std::int64_t>(offsets_, document);
  }
  void read(const Range& tokens, std::int64_t* out) const override {
    const auto read =
        wide_ ? read_numbers<std::uint32_t> : read_numbers<std::uint16_t>;
    read(file_.file(), file_.path(), tokens_, tokens, vocab_size_, out);
  }
  std::string format() const override { return "tokens"; }
  std::string vocabulary() const override {
    return "tokenizer of hash " + file_.metadata().at(kTokenizerHash);
  }
  std::uint64_t hash(std::uint64_t state) const override {
    return hash_of(file_.file(), state);
  }

 private:
  const checkpoint::NamedTensor& tensor(const std::string& name) const {
    const auto found = std::ranges::find(file_.tensors(), name,
                                         &checkpoint::NamedTensor::name);
    require(found != file_.tensors().end(),
            "[{}] got no tensor {}; want a token file, made by python -m "
            "ringweave tokenize",
            file_.path(), name);
    return *found;
  }

  void check_metadata() {
    const auto& metadata = file_.metadata();
    const auto text = [&](const char* key) {
      const auto found = metadata.find(key);
      require(found != metadata.end(),
              "[{}] got no {} in its metadata; want a token file, made by "
              "python -m ringweave tokenize",
              file_.path(), key);
      return found->second;
    };
    const std::string format = text("format"), version = text("version");
    require(format == "ringweave.tokens" && version == "1",
            "[{}] got format {} of version {}; want ringweave.tokens of "
            "version 1",
            file_.path(), format, version);
    text(kTokenizerHash);
    const std::string words = text("vocab_size");
    std::int64_t size = 0;
    const auto read =
        std::from_chars(words.data(), words.data() + words.size(), size);
    require(read.ec == std::errc() && read.ptr == words.data() + words.size() &&
                size > 0,
            "[{}] got vocab_size {}; want a number of tokens", file_.path(),
            words);
    require(size <= vocab_size_,
            "[model.vocab_size] got {}; want at least {}, the vocabulary of {}",
            vocab_size_, size, file_.path());
    // A token beyond the tokenizer's own vocabulary is a fault of the file.
    vocab_size_ = size;
  }

  void check_offsets(std::int64_t tokens, std::int64_t count) const {
    const auto wrong = [&](std::int64_t i) {
      const std::int64_t before = i == 0 ? -1 : offset(i - 1);
      return offset(i) <= before || (i == 0 && offset(i) != 0);
    };
    for (std::int64_t i = 0; i < count; ++i) {
      require(!wrong(i),
              "[{}] got document_offsets[{}] {}; want 0, then ever more",
              file_.path(), i, offset(i));
    }
    require(count > 1 && offset(count - 1) == tokens,
            "[{}] got documents of {} tokens; want at least one, and {}, all "
            "tokens",
            file_.path(), count == 0 ? 0 : offset(count - 1), tokens);
  }

  checkpoint::SafetensorsFile file_;
  std::int64_t vocab_size_;
  bool wide_ = false;  ///< uint32, not uint16
  std::span<const std::byte> tokens_;
  std::span<const std::byte> offsets_;
};

}  // namespace

std::unique_ptr<const Source> open_token_file(const std::string& path,
                                              const SourceOptions& options) {
  return std::make_unique<TokenFile>(path, options);
}

std::unique_ptr<const Source> open_uint16(const std::string& path,
                                          const SourceOptions& options) {
  return std::make_unique<PlainTokens<std::uint16_t>>(path, options);
}

std::unique_ptr<const Source> open_uint32(const std::string& path,
                                          const SourceOptions& options) {
  return std::make_unique<PlainTokens<std::uint32_t>>(path, options);
}

}  // namespace ringweave::data
