#include "ringweave/data/corpus.h"

#include <algorithm>
#include <cstdlib>

#include "ringweave/base/error.h"
#include "ringweave/base/hash.h"

namespace ringweave::data {
namespace {

std::vector<std::unique_ptr<const Source>> open_all(
    const std::vector<std::string>& files, const SourceOptions& options) {
  std::vector<std::unique_ptr<const Source>> sources;
  for (const std::string& path : files) {
    sources.push_back(open_source(path, options));
    const std::string first = sources.front()->vocabulary();
    const std::string own = sources.back()->vocabulary();
    require(own == first, "[data] got {} ({}) and {} ({}); want one vocabulary",
            files.front(), first, path, own);
  }
  return sources;
}

}  // namespace

Corpus::Corpus(std::vector<std::unique_ptr<const Source>> sources)
    : sources_(std::move(sources)), begins_{0} {
  for (const auto& source : sources_) {
    begins_.push_back(begins_.back() + source->tokens());
  }
}

Corpus::Corpus(const std::vector<std::string>& files,
               const SourceOptions& options)
    : Corpus(open_all(files, options)) {}

std::int64_t Corpus::documents() const {
  std::int64_t sum = 0;
  for (const auto& source : sources_) sum += source->documents();
  return sum;
}

std::size_t Corpus::source_of(std::int64_t token) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(begins_, token) -
                                  begins_.begin() - 1);
}

void Corpus::read(const Range& tokens, std::int64_t* out) const {
  for (std::int64_t at = tokens.begin; at < tokens.end;) {
    const std::size_t i = source_of(at);
    const Range part = {at, std::min(tokens.end, begins_[i + 1])};
    sources_[i]->read(moved(part, -begins_[i]), out);
    out += part.size();
    at = part.end;
  }
}

std::vector<std::int64_t> Corpus::document_starts(const Range& tokens) const {
  std::vector<std::int64_t> starts;
  for (std::int64_t at = tokens.begin; at < tokens.end;) {
    const std::size_t i = source_of(at);
    const Source& source = *sources_[i];
    const std::int64_t end = std::min(tokens.end, begins_[i + 1]);
    for (std::int64_t document = source.document_of(at - begins_[i]);
         document < source.documents(); ++document) {
      const std::int64_t start = begins_[i] + source.offset(document);
      if (start >= end) break;
      // Empty documents share their start with the one behind them.
      if (start >= at && (starts.empty() || starts.back() != start)) {
        starts.push_back(start);
      }
    }
    at = end;
  }
  return starts;
}

std::int64_t Corpus::nearest_start(std::int64_t token) const {
  std::int64_t nearest = 0;
  const auto consider = [&](std::int64_t start) {
    const bool inside = start > 0 && start < tokens();
    if (inside &&
        (nearest == 0 || std::abs(start - token) < std::abs(nearest - token))) {
      nearest = start;
    }
  };
  const std::size_t i = source_of(token);
  const Source& source = *sources_[i];
  const std::int64_t document = source.document_of(token - begins_[i]);
  consider(begins_[i] + source.offset(document));
  consider(begins_[i] + source.offset(document + 1));
  return nearest;
}

bool Corpus::has(const std::string& format) const {
  return std::ranges::any_of(
      sources_, [&](const auto& source) { return source->format() == format; });
}

std::uint64_t Corpus::hash() const {
  std::uint64_t state = fnv1a("");
  for (const auto& source : sources_) {
    state = source->hash(fnv1a(source->format(), state));
  }
  return state;
}

}  // namespace ringweave::data
