#include "ringweave/config/run_to_plan.h"

#include "ringweave/base/error.h"
#include "ringweave/config/model_source.h"
#include "ringweave/config/train_config.h"

namespace ringweave::config {
namespace {

/// Whether the file itself has the field.
bool says(const Json& json, const char* section, const char* field) {
  return json.contains(section) && json[section].contains(field);
}

template <typename Value>
std::optional<Value> unless_default(const Value& value) {
  return value == Value{} ? std::nullopt : std::optional(value);
}

RunToPlan run_of(const TrainConfig& config, const Json& json) {
  const ParallelConfig& parallel = config.parallel;
  check_groups(config);
  RunToPlan run{
      .model = config.model,
      .compute = config.compute,
      .batch = sequences_at_a_time(config),
      .seq_len = {},
      .ranks = {},
      .topology = unless_default(parallel.topology),
      .layout = {},
      .device_table = unless_default(parallel.device_table),
      .memory_limit_bytes = unless_default(parallel.memory_limit_bytes),
      .message_overhead_seconds =
          unless_default(parallel.message_overhead_seconds)};
  if (says(json, "data", "seq_len")) run.seq_len = config.data.seq_len;
  if (says(json, "parallel", "ranks") || says(json, "parallel", "sequence")) {
    run.ranks = parallel.sequence_ranks();
  }
  if (says(json, "parallel", "layout")) run.layout = parallel.layout;
  return run;
}

}  // namespace

RunToPlan run_to_plan_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  require(!json.empty(),
          "[{}] got {{}}; want a config of train, or a model object with at "
          "least one field",
          path);
  if (object.has("format") || object.has("model")) {
    Json whole = json;
    take_model_from_folder(whole, path);
    return run_of(config_from_json(whole, path), json);
  }
  RunToPlan run;
  run.model = model_config_from_json(json, path);
  return run;
}

}  // namespace ringweave::config
