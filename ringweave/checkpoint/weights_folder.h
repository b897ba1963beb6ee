// The tensors of a folder as Hugging Face's libraries write it: in one file
// model.safetensors, or in those that model.safetensors.index.json lists.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/checkpoint/safetensors.h"

namespace ringweave::checkpoint {

inline constexpr const char* kWeightsFile = "model.safetensors";
inline constexpr const char* kWeightsIndexFile = "model.safetensors.index.json";

/// Of a file of weights: Transformers asks for this word.
inline const Metadata kWeightsMetadata = {{"format", "pt"}};

/// Name of a tensor → name of the file that holds it, of the text of an index.
/// Throws InvalidArgument, which names `path`, for what it can't be, and for
/// files that are not in the index's own folder.
std::map<std::string, std::string> weights_index_from_json(
    const Json& json, const std::string& path);

/// Tensors are read where they lie, without a copy.
class WeightsFolder {
 public:
  /// Throws InvalidArgument, which names the file, if there are no such files,
  /// if one can't be read, or if the files don't hold what the index says.
  explicit WeightsFolder(const std::string& path);

  const std::string& path() const { return path_; }
  /// By name. Their data live as long as this.
  const std::map<std::string, NamedTensor>& tensors() const { return tensors_; }
  /// The tensor leaves this process's memory: MappedFile::drop().
  void drop(const NamedTensor& tensor) const;

 private:
  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, NamedTensor> tensors_;
};

}  // namespace ringweave::checkpoint
