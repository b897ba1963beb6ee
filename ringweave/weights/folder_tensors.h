// The tensors of a folder, checked against those of a model and copied.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ringweave/checkpoint/weights_folder.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/config/model_source.h"
#include "ringweave/models/model.h"

namespace ringweave::weights {

class FolderTensors {
 public:
  /// Opens the folder's files; that of a checkpoint is read whole, for the
  /// manifest's hash. Throws InvalidArgument, which names the file, if one
  /// can't be read or is not what an index or a manifest says.
  explicit FolderTensors(const config::ModelSource& source);

  const std::string& path() const { return folder_.path(); }
  bool has(const std::string& name) const {
    return folder_.tensors().contains(name);
  }

  /// Whether there is one of that name and shape.
  bool fits(const checkpoint::NamedTensor& wanted) const;

  /// Throws InvalidArgument, which names folder and tensor, unless there is one
  /// of that name and shape that holds floating point numbers. `otherwise` is
  /// what else the caller would take, for the end of the text.
  void check(const checkpoint::NamedTensor& wanted,
             const std::string& otherwise = "") const;

  /// The tensors that are to be left out for a model, by name, in the order of
  /// the folder's own: those of a run's linear layers that the model's layers
  /// have not. Throws InvalidArgument for another tensor that the model has
  /// not. There may be RoPE's frequencies, which follow from the config, and
  /// beside tied embeddings a head that is equal to them.
  std::vector<std::string> left_out(const models::Model& model) const;

  /// Sets those tensors of `model` that `names` has, all of which were
  /// checked, rounded to its type.
  void copy_to(const models::Model& model,
               const std::vector<std::string>& names) const;

 private:
  /// Whether the model can do without the folder's tensor of that name.
  bool is_needless(const std::string& name, const models::Model& model) const;

  checkpoint::WeightsFolder folder_;
  /// Of the run that wrote the folder; none: a folder of Hugging Face's.
  std::optional<config::ModelConfig> run_;
};

/// Of all weights of a model, to compare them.
std::string hash_of(const models::Model& model);

/// Ranks may have read different folders, or one that was being written. Every
/// rank must call it, with the hash of its weights: 16 bytes per rank. Throws
/// InvalidArgument, which names the folder, on all ranks if one has other
/// weights than the others, CommError if a peer fails.
void check_equal(const std::string& hash, const std::string& folder,
                 comm::Communicator& communicator);

}  // namespace ringweave::weights
