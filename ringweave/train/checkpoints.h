// A run's checkpoints: what its ranks write together, and go on from.
//
//   RUN/checkpoints/step-00000100/
//     model.safetensors                      weights by Hugging Face's names
//     optimizer-00001-of-00004.safetensors   a piece of AdamW's moments
//     state.json  manifest.json
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/checkpoint/checkpoint_folder.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/config/train_config.h"
#include "ringweave/models/model.h"
#include "ringweave/train/optimizer.h"

namespace ringweave::train {

/// Where a run keeps its checkpoints, the same on all ranks.
struct Saving {
  std::string run{};                     ///< the run's folder; empty: none
  std::optional<std::int64_t> resume{};  ///< the step of the checkpoint to load
  std::string data{};                    ///< hash of the data
  Json versions{};                       ///< of the programs
};

/// One rank's part. Every rank calls each member, in the same order; what one
/// can't do is an error on all of them, with the text of the first such rank.
/// After a CommError nothing more is written.
class Checkpoints {
 public:
  /// Checks that all ranks see the same run folder. Throws InvalidArgument if
  /// not, Error if it can't be written.
  Checkpoints(const config::TrainConfig& config, const Saving& saving,
              comm::Communicator& communicator);

  /// Sets weights and moments to those of the checkpoint of `step`, which any
  /// number of ranks may have written. Throws InvalidArgument, which names the
  /// file, unless all files are as their manifest says and hold the tensors of
  /// this model.
  void load(std::int64_t step, const models::Model& model, AdamW& optimizer);

  /// Writes the checkpoint of `step`; then removes those that the config does
  /// not keep. Throws Error if that can't be done: the checkpoints before are
  /// as they were.
  void save(std::int64_t step, const models::Model& model,
            const AdamW& optimizer);

 private:
  bool leads() const { return communicator_.rank() == 0; }

  const config::TrainConfig& config_;
  const Saving& saving_;
  comm::Communicator& communicator_;
  checkpoint::CheckpointFolder folder_;
};

}  // namespace ringweave::train
