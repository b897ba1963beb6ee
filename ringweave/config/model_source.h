// Folders with the weights of a model: those of runs, of checkpoints, and of
// Hugging Face's.
#pragma once

#include <optional>
#include <string>

#include "ringweave/base/json.h"
#include "ringweave/config/model_config.h"
#include "ringweave/config/train_config.h"

namespace ringweave::config {

/// What such a folder says beside the weights.
struct ModelSource {
  std::string folder;  ///< that has the weights: of a run its newest checkpoint
  std::string file;    ///< of that folder, which says what the model is
  ModelConfig model;
  /// Of the run that wrote the checkpoint; none: a folder of Hugging Face's.
  std::optional<TrainConfig> run{};
};

/// Of the folder of a run, of one of its checkpoints, or of weights that
/// Transformers wrote. Throws InvalidArgument, which names the folder or the
/// file, for another one, for a run without a checkpoint, and as read_state()
/// and model_config_from_hugging_face().
ModelSource find_model(const std::string& path);

/// Of the run that wrote the checkpoint in `folder`. Throws InvalidArgument,
/// which names the file, if it can't be read.
TrainConfig config_of_checkpoint(const std::string& folder);

/// `run` is a config of train, still as JSON. If it has an `init.from`, the
/// fields that its `model` lacks become those of that folder's model, and of a
/// run's folder `init.from` becomes the checkpoint's. A `linear` of the same
/// family as a run's has the run's fields where it lacks them. Throws
/// InvalidArgument, which names the field, if the config says another value
/// than the folder. Free are `pattern`, `linear`, `sliding_windows` and
/// `max_position_embeddings`; with names in `init.skip` also sizes, which the
/// tensors' shapes show.
void take_model_from_folder(Json& run, const std::string& path);

}  // namespace ringweave::config
