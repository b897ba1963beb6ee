// What `ringweave plan --model` reads: a config of train, or the object of its
// model alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ringweave/base/element_type.h"
#include "ringweave/base/json.h"
#include "ringweave/config/model_config.h"

namespace ringweave::config {

/// A field is empty if the file says nothing of it. A flag or the planner's
/// default then decides, which need not be train's default.
struct RunToPlan {
  ModelConfig model;
  ElementType compute = ElementType::bfloat16;
  std::int64_t batch = 1;
  std::optional<std::int64_t> seq_len;
  /// Of the section "parallel".
  std::optional<std::int64_t> ranks;
  std::optional<std::string> topology, layout, device_table;
  std::optional<double> memory_limit_bytes, message_overhead_seconds;
};

/// Of a config of train, read as train reads it; or of a model object, which
/// has at least one field: then all but the model is as above. Throws
/// InvalidArgument; `path` names the file in errors.
RunToPlan run_to_plan_from_json(const Json& json, const std::string& path);

}  // namespace ringweave::config
