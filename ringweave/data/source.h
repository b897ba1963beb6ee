// The documents of one file, as tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "ringweave/base/mapped_file.h"
#include "ringweave/base/range.h"

namespace ringweave::data {

/// Of tokens that are bytes: what follows each document, if anything does.
inline constexpr std::int64_t kBytes = 256;
inline constexpr std::int64_t kEndOfBytes = 256;

/// Immutable, for several threads.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::int64_t documents() const = 0;
  /// Tokens before the document of that index; of documents(): all tokens.
  virtual std::int64_t offset(std::int64_t document) const = 0;
  /// Writes the tokens of a range of 0 … tokens(). Throws InvalidArgument,
  /// which names file and place, for one that the vocabulary does not have.
  virtual void read(const Range& tokens, std::int64_t* out) const = 0;
  /// The name of its format.
  virtual std::string format() const = 0;
  /// What the numbers of tokens mean: sources of one corpus have the same.
  virtual std::string vocabulary() const = 0;
  /// Continues a hash by the file's size and blocks drawn from it, or the whole
  /// of a small file.
  virtual std::uint64_t hash(std::uint64_t state) const = 0;

  std::int64_t tokens() const { return offset(documents()); }
  /// The document that the token is of.
  std::int64_t document_of(std::int64_t token) const;
};

struct SourceOptions {
  /// A name of config::data_formats(). "auto": by the name of the file.
  std::string format = "auto";
  std::string text_field = "text";  ///< of JSON lines
  /// Of plain token files: ends each document; at least one is there.
  std::optional<std::int64_t> end_token{};
  std::int64_t vocab_size = kBytes;
  /// Whether their borders are needed. Without, plain tokens need no end_token.
  bool documents = false;
};

/// Throws InvalidArgument, which names the file, the place in it, what was got
/// and what is wanted, for a file that can't be read or holds something else.
std::unique_ptr<const Source> open_source(const std::string& path,
                                          const SourceOptions& options);

/// Whether the file's tokens are bytes: by the format, and of "auto" by the
/// file's name. The file need not be there.
bool reads_bytes(const std::string& path, const std::string& format);

/// Source::vocabulary() of texts.
inline constexpr const char* kByteVocabulary = "bytes";

/// Source::hash() of the bytes of a file.
std::uint64_t hash_of(std::span<const std::byte> bytes, std::uint64_t state);
/// The same, and then drops the file's pages.
std::uint64_t hash_of(const MappedFile& file, std::uint64_t state);

/// `tokens` numbers below `vocab_size`, each drawn from the seed and its place,
/// as one document: for measurements.
std::unique_ptr<const Source> random_tokens(std::int64_t tokens,
                                            std::int64_t vocab_size,
                                            std::uint64_t seed);

// The formats. A text file is one document; a byte model whose vocabulary has
// more than 256 tokens gets one more, kEndOfBytes, behind each document.
std::unique_ptr<const Source> open_text(const std::string& path,
                                        const SourceOptions& options);
/// JSON objects, one to a line, each a document. Blank lines are none.
std::unique_ptr<const Source> open_json_lines(const std::string& path,
                                              const SourceOptions& options);
/// docs/token-file.md.
std::unique_ptr<const Source> open_token_file(const std::string& path,
                                              const SourceOptions& options);
/// Nothing but little-endian numbers.
std::unique_ptr<const Source> open_uint16(const std::string& path,
                                          const SourceOptions& options);
std::unique_ptr<const Source> open_uint32(const std::string& path,
                                          const SourceOptions& options);

}  // namespace ringweave::data
