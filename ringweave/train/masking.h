// What an encoder has to predict: tokens that were masked.
//
// Devlin et al.: BERT, 2018: a share of the tokens is chosen; of these 80 %
// become the mask token, 10 % another token, and 10 % stay. Liu et al.:
// RoBERTa, 2019: others are chosen each time that a sequence is read.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "ringweave/config/train_config.h"
#include "ringweave/data/dataset.h"

namespace ringweave::train {

using config::TrainConfig;

/// Chooses by the seed, a sequence's number and a token's place in it alone: so
/// the choice is the same however ranks and groups split the sequences.
class Masking {
 public:
  enum class Use { training, validation };

  /// Of an encoder's config that was checked.
  Masking(const TrainConfig& config, Use use);

  /// What the model reads, and in place of each token its label: the token
  /// itself if it was chosen, else models::kNoLabel. (rows, seq_len) int64
  /// each.
  struct Masked {
    at::Tensor tokens, labels;
  };
  /// sequences: (rows, seq_len + 1) int64, of which the last column is not
  /// used; `first`: the number of the first of them. In training each reading
  /// of a sequence has a number of its own.
  Masked apply(const at::Tensor& sequences, std::int64_t first) const;

  /// Tokens that are chosen in `rows` sequences from number `first` on.
  std::int64_t count(std::int64_t first, std::int64_t rows) const;

 private:
  std::uint64_t draw(std::int64_t number, std::int64_t place) const;
  bool chosen(std::uint64_t draw) const;
  std::int64_t read_as(std::int64_t token, std::uint64_t draw) const;

  std::uint64_t seed_;
  std::int64_t seq_len_;
  std::int64_t vocab_size_;
  std::int64_t mask_token_;
  double fraction_;
};

/// Throws InvalidArgument for an encoder of tokens that are not bytes, unless
/// the config names the token in place of masked ones.
void check_mask_token(const TrainConfig& config, const data::Dataset& dataset);

}  // namespace ringweave::train
