#include "ringweave/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "ringweave/base/error.h"
#include "ringweave/data/input_files.h"

namespace ringweave::data {
namespace {

bool resets(const DataConfig& config) { return config.documents == "reset"; }

/// Where the held-out end begins.
std::int64_t held_out_from(const Corpus& corpus, double fraction) {
  const auto tokens = static_cast<double>(corpus.tokens());
  const std::int64_t wanted = corpus.tokens() - std::llround(tokens * fraction);
  if (wanted == corpus.tokens()) return wanted;
  const std::int64_t border = corpus.nearest_start(wanted);
  const bool near =
      border > 0 &&
      static_cast<double>(std::abs(border - wanted)) <= tokens * fraction / 2;
  return near ? border : wanted;
}

void check_vocabulary(const Corpus& corpus, const DataConfig& config,
                      std::int64_t vocab_size) {
  if (corpus.vocabulary() != kByteVocabulary) return;
  const std::int64_t least = resets(config) ? kEndOfBytes + 1 : kBytes;
  require(
      vocab_size >= least,
      "[model.vocab_size] got {}; want at least {}, since tokens are bytes{}",
      vocab_size, least,
      resets(config) ? fmt::format(" and {} ends a document", kEndOfBytes)
                     : "");
}

Sequences sequences(const std::shared_ptr<const Corpus>& corpus,
                    const Range& tokens, const DataConfig& config,
                    const char* what) {
  Sequences result(corpus, tokens, config.seq_len, resets(config));
  require(result.size() > 0,
          "[data] got {} tokens to {}; want at least {}: one sequence of {} "
          "tokens and the last one's label",
          tokens.size(), what, config.seq_len + 1, config.seq_len);
  return result;
}

/// The files that the path names; itself, if there are none any more.
std::vector<std::string> names_of(const std::string& path) {
  try {
    return input_files({path}, "data.files");
  } catch (const InvalidArgument&) {
    return {path};
  }
}

}  // namespace

Sequences::Sequences(std::shared_ptr<const Corpus> corpus, const Range& tokens,
                     std::int64_t seq_len, bool documents)
    : corpus_(std::move(corpus)),
      tokens_(tokens),
      seq_len_(seq_len),
      documents_(documents) {}

std::int64_t Sequences::size() const {
  return tokens_.empty() ? 0 : (tokens_.size() - 1) / seq_len_;
}

Range Sequences::range(std::int64_t index) const {
  const std::int64_t begin = tokens_.begin + index * seq_len_;
  return {begin, begin + seq_len_ + 1};
}

void Sequences::read(std::int64_t index, std::int64_t* out) const {
  corpus_->read(range(index), out);
}

std::vector<std::int64_t> Sequences::borders(std::int64_t index) const {
  if (!documents_) return {};
  const Range all = range(index);
  std::vector<std::int64_t> starts =
      corpus_->document_starts({all.begin + 1, all.end});
  for (std::int64_t& start : starts) start -= all.begin;
  return starts;
}

std::string Dataset::hash() const {
  return fmt::format("{:016x}-{:016x}", files->hash(),
                     validation_files ? validation_files->hash() : 0);
}

Dataset open_dataset(const DataConfig& config, std::int64_t vocab_size) {
  SourceOptions options{.format = config.format,
                        .end_token = config.end_token,
                        .vocab_size = vocab_size,
                        .documents = resets(config)};
  if (config.text_field) options.text_field = *config.text_field;
  const auto open = [&](const std::vector<std::string>& paths,
                        const char* field) {
    return paths.empty() ? nullptr
                         : std::make_shared<const Corpus>(
                               input_files(paths, field), options);
  };
  const auto train = open(config.files, "data.files");
  const auto validation =
      open(config.validation_files, "data.validation_files");
  ensure(train != nullptr, "a dataset without files");
  check_vocabulary(*train, config, vocab_size);
  require(!validation || validation->vocabulary() == train->vocabulary(),
          "[data.validation_files] got {}; want {}, as in data.files",
          validation ? validation->vocabulary() : "", train->vocabulary());
  const auto any = [&](const char* format) {
    return train->has(format) || (validation && validation->has(format));
  };
  require(!config.text_field || any("json_lines"),
          "[data.text_field] got {} without JSON lines; want some, or not this "
          "field",
          config.text_field.value_or(""));
  require(!config.end_token || any("uint16") || any("uint32"),
          "[data.end_token] got {} without files of format uint16 or uint32; "
          "want some, or not this field",
          config.end_token.value_or(0));
  return make_dataset(train, validation, config);
}

bool reads_bytes(const DataConfig& config, std::int64_t vocab_size) {
  if (config.format != "auto") return reads_bytes("", config.format);
  const auto of_name = [&](const std::string& name) {
    const std::filesystem::path path(name);
    std::error_code error;
    const bool told = path.has_extension() ||
                      std::filesystem::is_regular_file(path, error) ||
                      vocab_size <= config::kMaskOfBytes + 1;
    return told && reads_bytes(name, config.format);
  };
  return std::ranges::all_of(config.files, [&](const std::string& path) {
    return std::ranges::all_of(names_of(path), of_name);
  });
}

Dataset make_dataset(std::shared_ptr<const Corpus> train,
                     std::shared_ptr<const Corpus> validation,
                     const DataConfig& config) {
  Dataset dataset;
  dataset.files = train;
  dataset.validation_files = validation;
  std::int64_t end = train->tokens();
  Range held_out;
  if (validation) {
    held_out = {0, validation->tokens()};
  } else {
    end = held_out_from(*train, config.validation_fraction);
    held_out = {end, train->tokens()};
    validation = train;
  }
  dataset.train = sequences(train, {0, end}, config, "train on");
  if (!held_out.empty()) {
    dataset.validation = sequences(validation, held_out, config, "validate on");
  }
  return dataset;
}

}  // namespace ringweave::data
