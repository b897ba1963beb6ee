#include "ringweave/train/masking.h"

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/base/splitmix.h"
#include "ringweave/data/source.h"
#include "ringweave/models/model.h"

namespace ringweave::train {
namespace {

constexpr double kMaskedOfChosen = 0.8;
constexpr double kOtherOfChosen = 0.1;

/// Its place in 0 … 1.
double share(std::uint64_t draw) {
  return static_cast<double>(draw >> 11) * 0x1p-53;
}

}  // namespace

Masking::Masking(const TrainConfig& config, Use use)
    : seed_(splitmix64(static_cast<std::uint64_t>(config.seed) +
                       (use == Use::training ? 1 : 2) * kSplitMixStep)),
      seq_len_(config.data.seq_len),
      vocab_size_(config.model.vocab_size),
      mask_token_(config.data.mask()),
      fraction_(config.data.masked()) {}

std::uint64_t Masking::draw(std::int64_t number, std::int64_t place) const {
  return splitmix64(splitmix64(seed_ + static_cast<std::uint64_t>(number)) +
                    static_cast<std::uint64_t>(place));
}

bool Masking::chosen(std::uint64_t draw) const {
  return share(draw) < fraction_;
}

std::int64_t Masking::read_as(std::int64_t token, std::uint64_t draw) const {
  const std::uint64_t way = splitmix64(draw);
  if (share(way) < kMaskedOfChosen) return mask_token_;
  if (share(way) >= kMaskedOfChosen + kOtherOfChosen) return token;
  if (vocab_size_ == 1) return token;
  // Any but the mask.
  const auto other = static_cast<std::int64_t>(
      splitmix64(way) % static_cast<std::uint64_t>(vocab_size_ - 1));
  return other < mask_token_ ? other : other + 1;
}

Masking::Masked Masking::apply(const at::Tensor& sequences,
                               std::int64_t first) const {
  ensure(sequences.dim() == 2 && sequences.size(1) == seq_len_ + 1,
         "sequences of {} tokens to mask; want {}", sequences.size(-1),
         seq_len_ + 1);
  Masked masked{
      .tokens =
          sequences.narrow(1, 0, seq_len_).clone(at::MemoryFormat::Contiguous),
      .labels =
          at::full({sequences.size(0), seq_len_}, models::kNoLabel, at::kLong)};
  auto* token = masked.tokens.mutable_data_ptr<std::int64_t>();
  auto* label = masked.labels.mutable_data_ptr<std::int64_t>();
  for (std::int64_t row = 0; row < sequences.size(0); ++row) {
    for (std::int64_t place = 0; place < seq_len_; ++place, ++token, ++label) {
      const std::uint64_t drawn = draw(first + row, place);
      if (!chosen(drawn)) continue;
      *label = *token;
      *token = read_as(*token, drawn);
    }
  }
  return masked;
}

std::int64_t Masking::count(std::int64_t first, std::int64_t rows) const {
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t place = 0; place < seq_len_; ++place) {
      if (chosen(draw(first + row, place))) ++count;
    }
  }
  return count;
}

void check_mask_token(const TrainConfig& config, const data::Dataset& dataset) {
  require(config.model.causal || config.data.mask_token ||
              dataset.files->vocabulary() == data::kByteVocabulary,
          "[data.mask_token] got none with an encoder of {}; want the token in "
          "place of masked ones",
          dataset.files->vocabulary());
}

}  // namespace ringweave::train
