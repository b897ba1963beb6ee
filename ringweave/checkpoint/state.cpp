#include "ringweave/checkpoint/state.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/checkpoint_folder.h"

namespace ringweave::checkpoint {
namespace {

constexpr const char* kStateFormat = "ringweave.checkpoint";
constexpr int kStateVersion = 1;

/// Whether a run may go on with another value of the field, written as a JSON
/// pointer.
bool may_differ(std::string_view field) {
  // Sums over ranks are of another type with it.
  if (field == "/parallel/grad_payload") return false;
  constexpr std::array<std::string_view, 8> kFree = {
      "/init/",      "/parallel/",  "/checkpoint/",
      "/time_outs/", "/data/files", "/data/validation_files",
      "/steps",      "/threads"};
  return std::ranges::any_of(
      kFree, [&](std::string_view start) { return field.starts_with(start); });
}

std::string dotted(std::string field) {
  field.erase(0, 1);
  std::ranges::replace(field, '/', '.');
  return field;
}

}  // namespace

Json to_json(const State& state) {
  return {{"format", kStateFormat}, {"version", kStateVersion},
          {"step", state.step},     {"samples", state.samples},
          {"parts", state.parts},   {"data", state.data},
          {"config", state.config}, {"versions", state.versions}};
}

State state_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  check_format(object, kStateFormat, kStateVersion);
  State state;
  state.step = object.integer("step", 0);
  state.samples = object.integer("samples", 0);
  const std::int64_t parts = object.integer("parts", 1);
  constexpr std::int64_t kMaxParts = 1 << 20;
  require(parts <= kMaxParts, "[{}.parts] got {}; want at most {}", path, parts,
          kMaxParts);
  state.parts = static_cast<int>(parts);
  state.data = object.line("data");
  state.config = object.value("config");
  state.versions = object.value("versions");
  object.done();
  require(state.config.is_object(), "[{}.config] got {}; want an object", path,
          state.config.type_name());
  return state;
}

State read_state(const std::string& folder) {
  const std::string path = folder + "/" + kStateFile;
  State state = state_from_json(read_json_file(path), path);
  const auto place = place_of_checkpoint(folder);
  require(!place || place->step == state.step,
          "[{}] got step {}; want {}, as in the folder's name", path,
          state.step, place ? place->step : 0);
  return state;
}

void check_resumable(const State& state, const std::string& folder,
                     const Json& config, const std::string& data) {
  const Json before = state.config.flatten();
  const Json now = config.flatten();
  const auto text = [](const Json& fields, const std::string& field) {
    return fields.contains(field) ? fields[field].dump() : "none";
  };
  for (const Json* fields : {&now, &before}) {
    for (const auto& [field, value] : fields->items()) {
      if (may_differ(field)) continue;
      require(text(now, field) == text(before, field),
              "[resume] got {} {}; want {}, as in the checkpoint {}",
              dotted(field), text(now, field), text(before, field), folder);
    }
  }
  require(data == state.data,
          "[resume] got data of hash {}; want {}: the same bytes as the "
          "checkpoint {} was trained on",
          data, state.data, folder);
}

}  // namespace ringweave::checkpoint
