#include "ringweave/checkpoint/weights_folder.h"

#include <filesystem>
#include <functional>
#include <set>

#include "ringweave/base/error.h"

namespace ringweave::checkpoint {
namespace {

bool is_there(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

bool lies_in(const NamedTensor& tensor, const MappedFile& file) {
  const auto bytes = file.bytes();
  const std::less_equal<const std::byte*> at_most;
  return at_most(bytes.data(), tensor.data.data()) &&
         at_most(tensor.data.data() + tensor.data.size(),
                 bytes.data() + bytes.size());
}

}  // namespace

std::map<std::string, std::string> weights_index_from_json(
    const Json& json, const std::string& path) {
  JsonObject object(json, path);
  const Json& names = object.value("weight_map");
  JsonObject map(names, path + ".weight_map");
  std::map<std::string, std::string> files;
  for (const auto& [name, value] : names.items()) {
    const std::string file = map.name(name);
    require(file.find('/') == file.npos && file != "..",
            "[{}.{}] got {}; want the name of a file beside the index",
            map.path(), name, file);
    files[name] = file;
  }
  return files;
}

WeightsFolder::WeightsFolder(const std::string& path) : path_(path) {
  const std::string single = path + "/" + kWeightsFile;
  const std::string index = path + "/" + kWeightsIndexFile;
  if (is_there(single)) {
    for (const auto& tensor : files_.emplace_back(single).tensors()) {
      tensors_[tensor.name] = tensor;
    }
    return;
  }
  require(is_there(index), "[{}] got neither {} nor {}; want one of them", path,
          kWeightsFile, kWeightsIndexFile);
  const auto places = weights_index_from_json(read_json_file(index), index);
  std::set<std::string> names;
  for (const auto& [tensor, file] : places) names.insert(file);
  for (const std::string& name : names) {
    const SafetensorsFile& file =
        files_.emplace_back(fmt::format("{}/{}", path, name));
    for (const auto& tensor : file.tensors()) {
      const auto place = places.find(tensor.name);
      require(place != places.end() && place->second == name,
              "[{}] got a tensor {}, which {} has in {}; want files that hold "
              "what it lists",
              file.path(), tensor.name, kWeightsIndexFile,
              place == places.end() ? "none" : place->second);
      tensors_[tensor.name] = tensor;
    }
  }
  for (const auto& [tensor, file] : places) {
    require(tensors_.contains(tensor),
            "[{}/{}] got no tensor {}; want it there"
            ", as {} says",
            path, file, tensor, kWeightsIndexFile);
  }
}

void WeightsFolder::drop(const NamedTensor& tensor) const {
  for (const SafetensorsFile& file : files_) {
    if (lies_in(tensor, file.file())) file.file().drop(tensor.data);
  }
}

}  // namespace ringweave::checkpoint
