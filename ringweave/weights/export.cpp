#include "ringweave/weights/export.h"

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <vector>

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/checkpoint_folder.h"
#include "ringweave/checkpoint/durable_file.h"
#include "ringweave/checkpoint/manifest.h"
#include "ringweave/checkpoint/new_folder.h"
#include "ringweave/checkpoint/weights_folder.h"
#include "ringweave/config/hugging_face.h"
#include "ringweave/config/model_source.h"
#include "ringweave/models/model.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::weights {
namespace {

using checkpoint::DataType;
using checkpoint::kWeightsFile;
using checkpoint::NamedTensor;

namespace fs = std::filesystem;

std::string checkpoint_of(const std::string& from) {
  const auto checkpoint = checkpoint::find_checkpoint(from);
  require(checkpoint.has_value(),
          "[export] got {}, which has no checkpoint; want the folder of a run "
          "or of a checkpoint",
          from);
  return *checkpoint;
}

/// Those of the checkpoint's file, checked against its manifest.
std::vector<NamedTensor> weights_of(const checkpoint::SafetensorsFile& file,
                                    const config::TrainConfig& config) {
  std::vector<NamedTensor> wanted;
  const models::Model model(config.model, config.compute, {});
  for (const auto& [name, value] : model.parameters()) {
    wanted.push_back(described(name, value));
  }
  return file.take(wanted);
}

/// Of one tensor after the other.
class Converter {
 public:
  Converter(const checkpoint::SafetensorsFile& file, DataType type)
      : file_(file), type_(type) {}

  std::span<const std::byte> operator()(const NamedTensor& source) {
    if (source.type == type_) return source.data;
    converted_ = read(source).to(scalar_type(type_));
    file_.file().drop(source.data);
    require(at::isfinite(converted_).all().item<bool>(),
            "[export] got numbers in {} that {} can't hold; want another "
            "--dtype",
            source.name, name(type_));
    return {static_cast<const std::byte*>(converted_.const_data_ptr()),
            converted_.nbytes()};
  }

 private:
  const checkpoint::SafetensorsFile& file_;
  DataType type_;
  at::Tensor converted_;
};

}  // namespace

ExportReport export_weights(const std::string& from, const std::string& out,
                            std::optional<DataType> type) {
  const std::string folder = checkpoint_of(from);
  const config::TrainConfig config = config::config_of_checkpoint(folder);
  ExportReport report{.checkpoint = folder,
                      .type = type.value_or(checkpoint::data_type(
                          accumulate_type(config.compute)))};
  const Json json = config::to_hugging_face(config.model, name(report.type),
                                            config.data.seq_len);
  checkpoint::check_file(folder, kWeightsFile);
  const checkpoint::SafetensorsFile file(folder + "/" + kWeightsFile);
  std::vector<NamedTensor> tensors = weights_of(file, config);
  std::map<std::string, NamedTensor> sources;
  for (NamedTensor& tensor : tensors) {
    sources[tensor.name] = tensor;
    tensor.type = report.type;
    report.parameters += c10::multiply_integers(tensor.shape);
  }
  report.tensors = static_cast<std::int64_t>(tensors.size());

  checkpoint::NewFolder folder_out(out, "export");
  checkpoint::write_durable(folder_out.file("config.json"),
                            json.dump(2) + "\n");
  Converter convert(file, report.type);
  report.bytes = checkpoint::write_safetensors(
                     folder_out.file(kWeightsFile), tensors,
                     [&](const NamedTensor& tensor) {
                       return convert(sources.at(tensor.name));
                     },
                     checkpoint::kWeightsMetadata)
                     .bytes;
  folder_out.complete();
  return report;
}

}  // namespace ringweave::weights
