// The sequences that a run trains and validates on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/config/train_config.h"
#include "ringweave/data/corpus.h"
#include "ringweave/data/order.h"

namespace ringweave::data {

using config::DataConfig;

/// Consecutive sequences of seq_len tokens, packed from documents, each with
/// the label of its last token: the token behind it. An incomplete last one is
/// left out.
class Sequences {
 public:
  Sequences() = default;
  /// Of a range of the corpus's tokens. `documents`: whether borders matter.
  Sequences(std::shared_ptr<const Corpus> corpus, const Range& tokens,
            std::int64_t seq_len, bool documents);

  std::int64_t size() const;
  std::int64_t seq_len() const { return seq_len_; }
  std::int64_t tokens() const { return tokens_.size(); }
  /// Writes the seq_len + 1 tokens of sequence `index`.
  void read(std::int64_t index, std::int64_t* out) const;
  /// The places in 1 … seq_len at which a document starts. A label there is of
  /// another document than its token. None if borders don't matter.
  std::vector<std::int64_t> borders(std::int64_t index) const;

 private:
  Range range(std::int64_t index) const;

  std::shared_ptr<const Corpus> corpus_;
  Range tokens_;
  std::int64_t seq_len_ = 1;
  bool documents_ = false;
};

/// Immutable, shared by the local ranks.
struct Dataset {
  Sequences train;
  Sequences validation;  ///< none: no validation
  std::shared_ptr<const Corpus> files,
      validation_files;  ///< the latter or null

  /// Of Corpus::hash(), to compare over ranks. Reads of each file.
  std::string hash() const;
};

/// Opens the files that the config names, of which there must be some. Throws
/// InvalidArgument as input_files() and Corpus, for files of which not even one
/// sequence can be cut, unless the vocabularies of files and model fit, and for
/// a field that no file needs.
Dataset open_dataset(const DataConfig& config, std::int64_t vocab_size);

/// Whether the tokens of a run with this config are bytes: by data.format, and
/// of "auto" by the names of the files, which need not be there any more. A
/// folder or a pattern that names no files any more counts by its own name;
/// what has no extension then, as a text if the vocabulary is one of bytes: 258
/// tokens at most.
bool reads_bytes(const DataConfig& config, std::int64_t vocab_size);

/// Of corpora that came from elsewhere. Without one for validation, the end of
/// the first is held out: the last documents that have about
/// config.validation_fraction of the tokens. Where there is no border within
/// half of this fraction of the wanted place, a document is cut there.
Dataset make_dataset(std::shared_ptr<const Corpus> train,
                     std::shared_ptr<const Corpus> validation,
                     const DataConfig& config);

}  // namespace ringweave::data
