// Byte tokens from text files, cut into samples.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/config/train_config.h"

namespace ringweave::train {

using config::DataConfig;

/// Texts as bytes; a token is a byte. Immutable, shared by the local ranks.
struct Data {
  std::string train;
  std::string validation;  ///< empty: no validation
};

/// Reads the files that the config names. Throws InvalidArgument naming a file
/// that is empty or can't be read, and for a text too short for one sample of
/// seq_len + 1 bytes.
Data read_data(const DataConfig& config);

/// A hash of all bytes, to compare over ranks. Takes time in their number.
std::string hash(const Data& data);

/// The full sequences of a step: sample i of a run starts at a place of the
/// text that depends on (seed, i) alone, whatever the ranks. Returns
/// (batch, seq_len + 1) int64: the tokens and, one further on, their labels.
at::Tensor training_batch(const Data& data, const DataConfig& config,
                          std::int64_t seed, std::int64_t step);

/// Validation goes through the text's consecutive sequences, leaving out an
/// incomplete last one. The last batch may have fewer sequences.
std::int64_t validation_batches(const Data& data, const DataConfig& config);
at::Tensor validation_batch(const Data& data, const DataConfig& config,
                            std::int64_t index);

}  // namespace ringweave::train
