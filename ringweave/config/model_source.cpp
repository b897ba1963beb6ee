#include "ringweave/config/model_source.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/checkpoint_folder.h"
#include "ringweave/checkpoint/state.h"
#include "ringweave/config/hugging_face.h"

namespace ringweave::config {
namespace {

constexpr const char* kFile = "config.json";

std::string state_file(const std::string& checkpoint) {
  return checkpoint + "/" + checkpoint::kStateFile;
}

/// What a run may say in another way than the folder it begins from.
bool is_free(std::string_view field, bool skips) {
  constexpr std::array<std::string_view, 4> kOfThePattern = {
      "pattern", "linear", "sliding_windows", "max_position_embeddings"};
  constexpr std::array<std::string_view, 6> kShown = {
      "vocab_size", "hidden",   "intermediate",
      "kv_heads",   "head_dim", "tie_embeddings"};
  return std::ranges::find(kOfThePattern, field) != kOfThePattern.end() ||
         (skips && std::ranges::find(kShown, field) != kShown.end());
}

/// `own` layers of a config beside those `of_run`: what is no object, and
/// another family, is for itself.
Json joined_linear(const Json& own, const Json& of_run) {
  if (!own.is_object() || own.value("kind", of_run["kind"]) != of_run["kind"]) {
    return own;
  }
  Json both = of_run;
  both.update(own);
  return both;
}

/// What the folder says of a model, and what a config says of it instead.
Json joined_model(const Json& own, const Json& folder) {
  Json both = folder;
  for (const auto& [field, value] : own.items()) both[field] = value;
  if (own.contains("linear") && folder.contains("linear")) {
    both["linear"] = joined_linear(own["linear"], folder["linear"]);
  }
  return both;
}

}  // namespace

TrainConfig config_of_checkpoint(const std::string& folder) {
  return config_from_json(with_new_names(checkpoint::read_state(folder).config),
                          state_file(folder) + ".config");
}

ModelSource find_model(const std::string& path) {
  if (const auto checkpoint = checkpoint::find_checkpoint(path)) {
    const TrainConfig run = config_of_checkpoint(*checkpoint);
    return {.folder = *checkpoint,
            .file = state_file(*checkpoint),
            .model = run.model,
            .run = run};
  }
  const std::string file = path + "/" + kFile;
  std::error_code error;
  require(std::filesystem::exists(file, error),
          "[{}] got neither a checkpoint nor a {}; want the folder of a run "
          "that has a checkpoint, of a checkpoint, or of weights that "
          "Transformers wrote",
          path, kFile);
  const Json json = read_json_file(file);
  require(
      !json.is_object() || json.value("format", Json()) != Json(kConfigFormat),
      "[{}] got a run without a checkpoint; want one that has one", path);
  return {.folder = path,
          .file = file,
          .model = model_config_from_hugging_face(json, file)};
}

void take_model_from_folder(Json& run, const std::string& path) {
  JsonObject object(run, path);
  JsonObject init = object.object("init");
  const std::string from = init.string("from", "");
  if (from.empty()) return;
  const bool skips = !init.strings("skip", std::vector<std::string>{}).empty();
  const ModelSource source = find_model(from);
  Json folder = to_json(source.model);
  if (!source.run) folder.erase("linear");  // Llama has no such layers
  const std::string where = path + ".model";
  const Json own = run.contains("model") ? run["model"] : Json::object();
  require(own.is_object(), "[{}] got {}; want an object", where,
          own.type_name());
  const Json both = joined_model(own, folder);
  const Json read = to_json(model_config_from_json(both, where));
  for (const auto& [field, value] : own.items()) {
    if (is_free(field, skips)) continue;
    const Json wanted = folder.value(field, Json());
    require(read[field] == wanted, "[{}.{}] got {}; want {}, as {} says", where,
            field, value.dump(), wanted.is_null() ? "none" : wanted.dump(),
            source.file);
  }
  run["model"] = both;
  run["init"]["from"] = source.folder;
}

}  // namespace ringweave::config
