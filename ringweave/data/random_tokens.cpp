#include "ringweave/base/error.h"
#include "ringweave/base/splitmix.h"
#include "ringweave/data/source.h"

namespace ringweave::data {
namespace {

class RandomTokens final : public Source {
 public:
  RandomTokens(std::int64_t tokens, std::int64_t vocab_size, std::uint64_t seed)
      : tokens_(tokens), vocab_size_(vocab_size), seed_(splitmix64(seed)) {}

  std::int64_t documents() const override { return 1; }
  std::int64_t offset(std::int64_t document) const override {
    return document == 0 ? 0 : tokens_;
  }
  void read(const Range& tokens, std::int64_t* out) const override {
    for (std::int64_t i = tokens.begin; i < tokens.end; ++i) {
      *out++ = static_cast<std::int64_t>(
          splitmix64(seed_ + static_cast<std::uint64_t>(i)) %
          static_cast<std::uint64_t>(vocab_size_));
    }
  }
  std::string format() const override { return "random"; }
  std::string vocabulary() const override {
    return fmt::format("{} random numbers", vocab_size_);
  }
  std::uint64_t hash(std::uint64_t state) const override {
    return splitmix64(splitmix64(state ^ seed_) ^
                      static_cast<std::uint64_t>(tokens_));
  }

 private:
  std::int64_t tokens_;
  std::int64_t vocab_size_;
  std::uint64_t seed_;
};

}  // namespace

std::unique_ptr<const Source> random_tokens(std::int64_t tokens,
                                            std::int64_t vocab_size,
                                            std::uint64_t seed) {
  ensure(tokens >= 1 && vocab_size >= 1, "{} random tokens below {}", tokens,
         vocab_size);
  return std::make_unique<RandomTokens>(tokens, vocab_size, seed);
}

}  // namespace ringweave::data
