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
  explicit Corpus(std::vector<std::unique_ptr<const Source>> sources);
  /// As open_source(); all files must hold bytes, or none.
  Corpus(const std::vector<std::string>& files, const SourceOptions& options);

  std::int64_t tokens() const { return begins_.back(); }
  std::int64_t documents() const;
  /// Of 0 … tokens(). Throws as Source::read().
  void read(const Range& tokens, std::int64_t* out) const;
  /// The tokens of a range that are the first ones of a document.
  std::vector<std::int64_t> document_starts(const Range& tokens) const;
  /// The start of a document nearest to `token`, of all but the first one;
  /// 0: there is none.
  std::int64_t nearest_start(std::int64_t token) const;

  /// Of the files' sizes and of blocks drawn from them: of a small file the
  /// whole.
  std::uint64_t hash() const;

 private:
  std::size_t source_of(std::int64_t token) const;

  std::vector<std::unique_ptr<const Source>> sources_;
  std::vector<std::int64_t> begins_;  ///< of each one's tokens; then all tokens
};

}  // namespace ringweave::data
