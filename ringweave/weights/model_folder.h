// A model in a folder: what it is, and its weights.
//
//   const ModelFolder folder("runs/first");  // once per process
//   const models::Model model = folder.load(folder.compute());
//   check_equal(hash_of(model), folder.path(), communicator);  // on each rank
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ringweave/base/element_type.h"
#include "ringweave/config/model_source.h"
#include "ringweave/models/model.h"
#include "ringweave/weights/folder_tensors.h"

namespace ringweave::weights {

class ModelFolder {
 public:
  /// `path` is the folder of a run, whose newest checkpoint is taken, of a
  /// checkpoint, or of weights that Transformers wrote. Throws InvalidArgument,
  /// which names the file or the tensor at fault, unless its files are whole
  /// and hold the model's tensors and no others; otherwise as find_model().
  explicit ModelFolder(const std::string& path);

  /// The folder that has the weights.
  const std::string& path() const { return tensors_.path(); }
  const config::ModelConfig& model() const { return source_.model; }
  /// Of a run its own; of Hugging Face's the weights' type, which for float16
  /// and where none is named is float32.
  ElementType compute() const { return compute_; }
  /// Tokens each of which ends a text; none if nobody said. Of a run what ended
  /// the documents of its data: data.end_token, or the token behind bytes. Of
  /// Hugging Face's `eos_token_id` of generation_config.json, or, if it does
  /// not say, of config.json; they may lie outside the vocabulary.
  const std::vector<std::int64_t>& end_tokens() const { return end_tokens_; }
  /// Whether its tokens are bytes: those of a run on texts or JSON lines, by
  /// data::reads_bytes().
  bool reads_bytes() const { return reads_bytes_; }

  /// The model with the folder's weights, rounded to its type. Threads may
  /// share it.
  models::Model load(ElementType compute) const;

 private:
  config::ModelSource source_;
  FolderTensors tensors_;
  std::vector<std::string> names_;  ///< of all tensors
  ElementType compute_ = ElementType::float32;
  std::vector<std::int64_t> end_tokens_;
  bool reads_bytes_ = false;
};

}  // namespace ringweave::weights
