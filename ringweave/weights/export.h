// The weights of a checkpoint as a folder that Transformers loads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ringweave/checkpoint/safetensors.h"

namespace ringweave::weights {

struct ExportReport {
  std::string checkpoint;  ///< its folder
  std::int64_t tensors = 0;
  std::int64_t parameters = 0;  ///< numbers
  checkpoint::DataType type = checkpoint::DataType::float32;
  std::int64_t bytes = 0;  ///< of the file of weights
};

/// Makes the folder `out` with config.json and model.safetensors. `from` is the
/// folder of a checkpoint, or of a run, whose newest checkpoint is taken.
/// Numbers are rounded to `type`; without one they stay as they are. One tensor
/// is in memory at a time. `out` is complete or absent. Throws InvalidArgument,
/// which names what is wrong, if `from` is neither, is damaged, or has a model
/// that Transformers has no class for, if `out` is there, or if a number is too
/// large for the type; Error if `out` can't be written.
ExportReport export_weights(const std::string& from, const std::string& out,
                            std::optional<checkpoint::DataType> type);

}  // namespace ringweave::weights
