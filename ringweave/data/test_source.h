// For tests: documents given directly.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ringweave/data/corpus.h"

namespace ringweave::data::test {

/// Each byte is a token; nothing is added behind a document.
class GivenDocuments final : public Source {
 public:
  explicit GivenDocuments(const std::vector<std::string>& documents) {
    for (const std::string& document : documents) {
      text_ += document;
      offsets_.push_back(static_cast<std::int64_t>(text_.size()));
    }
  }

  std::int64_t documents() const override {
    return static_cast<std::int64_t>(offsets_.size()) - 1;
  }
  std::int64_t offset(std::int64_t document) const override {
    return offsets_[static_cast<std::size_t>(document)];
  }
  void read(const Range& tokens, std::int64_t* out) const override {
    for (std::int64_t i = tokens.begin; i < tokens.end; ++i) {
      *out++ = static_cast<unsigned char>(text_[static_cast<std::size_t>(i)]);
    }
  }
  std::string format() const override { return "given"; }
  std::string vocabulary() const override { return kByteVocabulary; }
  std::uint64_t hash(std::uint64_t state) const override {
    return hash_of(std::as_bytes(std::span(text_)), state);
  }

 private:
  std::string text_;
  std::vector<std::int64_t> offsets_ = {0};
};

/// Each list is the documents of one file.
inline std::shared_ptr<const Corpus> corpus(
    const std::vector<std::vector<std::string>>& files) {
  std::vector<std::unique_ptr<const Source>> sources;
  for (const auto& documents : files) {
    sources.push_back(std::make_unique<GivenDocuments>(documents));
  }
  return std::make_shared<const Corpus>(std::move(sources));
}

}  // namespace ringweave::data::test
