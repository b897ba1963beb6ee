#include "ringweave/weights/model_folder.h"

#include <filesystem>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/config/hugging_face.h"
#include "ringweave/data/dataset.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::weights {
namespace {

std::vector<std::int64_t> end_tokens_of(const config::TrainConfig& run,
                                        bool reads_bytes) {
  if (run.data.end_token) return {*run.data.end_token};
  if (reads_bytes && run.model.vocab_size > data::kEndOfBytes) {
    return {data::kEndOfBytes};
  }
  return {};
}

/// `json` is the folder's config.json, in `file`.
std::vector<std::int64_t> end_tokens_of(const std::string& folder,
                                        const Json& json,
                                        const std::string& file) {
  const std::string own = folder + "/generation_config.json";
  std::error_code error;
  if (std::filesystem::exists(own, error)) {
    const Json generation = read_json_file(own);
    std::vector<std::int64_t> tokens =
        config::end_tokens_from_hugging_face(generation, own);
    if (generation.contains("eos_token_id")) return tokens;
  }
  return config::end_tokens_from_hugging_face(json, file);
}

}  // namespace

ModelFolder::ModelFolder(const std::string& path)
    : source_(config::find_model(path)), tensors_(source_) {
  if (source_.run) {
    compute_ = source_.run->compute;
    reads_bytes_ =
        data::reads_bytes(source_.run->data, source_.model.vocab_size);
    end_tokens_ = end_tokens_of(*source_.run, reads_bytes_);
  } else {
    const Json json = read_json_file(source_.file);
    compute_ = config::compute_from_hugging_face(json, source_.file);
    end_tokens_ = end_tokens_of(source_.folder, json, source_.file);
  }
  const models::Model shapes(source_.model, compute_, {});
  for (const auto& [name, value] : shapes.parameters()) {
    tensors_.check(described(name, value));
    names_.push_back(name);
  }
  const std::vector<std::string> left = tensors_.left_out(shapes);
  ensure(left.empty(), "{} left out of a run's own model", left.size());
}

models::Model ModelFolder::load(ElementType compute) const {
  models::Model model(source_.model, compute, {}, models::Unseeded::memory);
  tensors_.copy_to(model, names_);
  return model;
}

}  // namespace ringweave::weights
