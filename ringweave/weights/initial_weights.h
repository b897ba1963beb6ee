// The weights that a run begins with, from a folder of Hugging Face's.
//
//   const InitialWeights initial(config);  // once per process, before the run
//   initial.copy_to(model, communicator);  // on each rank
#pragma once

#include <string>
#include <vector>

#include "ringweave/checkpoint/weights_folder.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/config/train_config.h"
#include "ringweave/models/model.h"

namespace ringweave::weights {

class InitialWeights {
 public:
  /// Looks into config.init.from for the tensors of config.model. A tensor of
  /// the same name and shape is taken. Drawn from the seed, as without a
  /// folder, are those of config.init.skip, and of linear layers what a layer
  /// of Llama does not have. Throws InvalidArgument, which names the first
  /// tensor at fault, if another one is absent, has another shape or holds no
  /// floating point numbers, if the folder has tensors that the model has not,
  /// or as WeightsFolder.
  explicit InitialWeights(const config::TrainConfig& config);

  const std::string& folder() const { return folder_.path(); }
  /// Names, in the order of the model.
  const std::vector<std::string>& taken() const { return taken_; }
  const std::vector<std::string>& drawn() const { return drawn_; }

  /// Sets the tensors of a model of the same config that are taken, rounded to
  /// its type. Every rank must call it. Throws InvalidArgument on all ranks if
  /// one has other weights than the others, CommError if a peer fails.
  void copy_to(const models::Model& model,
               comm::Communicator& communicator) const;

 private:
  void check_rest(const models::Model& model) const;

  checkpoint::WeightsFolder folder_;
  std::vector<std::string> taken_;
  std::vector<std::string> drawn_;
};

/// Names as a person reads them, layers with the same tensor in one:
/// "model.layers.0-2,5.mlp.up_proj.weight". In the order of the first of each.
std::vector<std::string> by_layers(const std::vector<std::string>& names);

}  // namespace ringweave::weights
