// The weights that a run begins with, from a folder.
//
//   const InitialWeights initial(config);  // once per process, before the run
//   initial.copy_to(model, communicator);  // on each rank
#pragma once

#include <string>
#include <vector>

#include "ringweave/comm/communicator.h"
#include "ringweave/config/train_config.h"
#include "ringweave/models/model.h"
#include "ringweave/weights/folder_tensors.h"

namespace ringweave::weights {

class InitialWeights {
 public:
  /// Looks into config.init.from, which is a folder as config::find_model()
  /// takes it, for the tensors of config.model. A tensor of the same name and
  /// shape is taken. Drawn from the seed, as without a folder, are those of
  /// config.init.skip, and of linear layers those that the folder lacks and a
  /// layer of Llama does not have. Left out are those of linear layers of a
  /// run that config.model has not. Throws InvalidArgument, which names the
  /// first tensor at fault, if another one is absent, has another shape or
  /// holds no floating point numbers, if the folder has further tensors, or as
  /// find_model() and FolderTensors.
  explicit InitialWeights(const config::TrainConfig& config);

  /// That has the tensors: of a run its newest checkpoint.
  const std::string& folder() const { return tensors_.path(); }
  /// Names, in the order of the model.
  const std::vector<std::string>& taken() const { return taken_; }
  const std::vector<std::string>& drawn() const { return drawn_; }
  /// Names, in the order of the folder's model.
  const std::vector<std::string>& left_out() const { return left_out_; }

  /// Sets the tensors of a model of the same config that are taken, rounded to
  /// its type. Every rank must call it. Throws as check_equal().
  void copy_to(const models::Model& model,
               comm::Communicator& communicator) const;

 private:
  FolderTensors tensors_;
  std::vector<std::string> taken_;
  std::vector<std::string> drawn_;
  std::vector<std::string> left_out_;
};

}  // namespace ringweave::weights
