// The tokens of several files in a row.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/data/source.h"

namespace ringweave::data {

/// Immutable, for several threads.
class Corpus {
 public:
  /// At least one.
  explicit Corpus(std::vector<std::unique_ptr<const Source>> sources);
  /// Throws as open_source(), and for files of more than one vocabulary.
  Corpus(const std::vector<std::string>& files, const SourceOptions& options);

  std::int64_t tokens() const { return begins_.back(); }
  std::int64_t documents() const;
  /// Source::vocabulary() of all.
  std::string vocabulary() const { return sources_.front()->vocabulary(); }
  /// Whether a file is of that format.
  bool has(const std::string& format) const;
  /// Of 0 … tokens(). Throws as Source::read().
  void read(const Range& tokens, std::int64_t* out) const;
  /// The tokens of a range that are the first ones of a document.
  std::vector<std::int64_t> document_starts(const Range& tokens) const;
  /// The start of a document nearest to `token`, of all but the first one;
  /// 0: there is none.
  std::int64_t nearest_start(std::int64_t token) const;

  /// Of the files' formats, sizes, and blocks drawn from them (Source::hash).
  std::uint64_t hash() const;

 private:
  std::size_t source_of(std::int64_t token) const;

  std::vector<std::unique_ptr<const Source>> sources_;
  std::vector<std::int64_t> begins_;  ///< of each one's tokens; then all tokens
};

}  // namespace ringweave::data
