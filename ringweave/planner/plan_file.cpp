#include "ringweave/planner/plan_file.h"

#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"

namespace ringweave::planner {
namespace {

constexpr const char* kPlanFormat = "ringweave.plan";

Json to_json(const PassSeconds& seconds) {
  return {{"forward_seconds", seconds.forward},
          {"backward_seconds", seconds.backward}};
}

PassSeconds read_seconds(JsonObject object) {
  PassSeconds seconds{object.number("forward_seconds", 0),
                      object.number("backward_seconds", 0)};
  object.done();
  return seconds;
}

std::string state_text(const ModelShape& model) {
  return fmt::format("{} heads x {} x {} numbers and {} decays",
                     model.state.heads, model.state.key_dim,
                     model.state.value_dim, model.state_decays);
}

std::optional<PlanFile::Layers> layers_of(const LayerPlan& plan) {
  if (plan.chosen < 0) return std::nullopt;
  const Candidate& chosen = plan.candidates[plan.chosen];
  return PlanFile::Layers{
      .name = chosen.name,
      .strategy = chosen.strategy,
      .predicted = {chosen.forward.seconds, chosen.backward.seconds},
      .bound = {plan.forward_bound, plan.backward_bound}};
}

}  // namespace

PlanFile plan_file(const PlanRequest& request, const std::string& layout,
                   const Planned& planned) {
  return {.topology_name = request.machine.name,
          .topology_hash = request.machine.hash,
          .ranks = request.machine.ranks(),
          .model = request.shape,
          .layout = layout,
          .mask = request.mask,
          .seq_len = request.layout.tokens(),
          .softmax = layers_of(planned.softmax),
          .linear = layers_of(planned.linear),
          .step_seconds = planned.step_seconds};
}

Json to_json(const PlanFile& plan) {
  Json json = {{"format", kPlanFormat},
               {"version", 1},
               {"topology",
                {{"name", plan.topology_name},
                 {"hash", plan.topology_hash},
                 {"ranks", plan.ranks}}},
               {"model", to_json(plan.model)},
               {"layout", plan.layout},
               {"mask", plan.mask.to_json()},
               {"seq_len", plan.seq_len}};
  Json predicted = Json::object();
  Json bound = Json::object();
  if (plan.softmax) {
    json["softmax"] = to_json(*plan.softmax->strategy);
    predicted["softmax"] = to_json(plan.softmax->predicted);
    bound["softmax"] = to_json(plan.softmax->bound);
  }
  if (plan.linear) {
    json["linear"] = {{"exchange", plan.linear->name}};
    predicted["linear"] = to_json(plan.linear->predicted);
    bound["linear"] = to_json(plan.linear->bound);
  }
  predicted["step_seconds"] = plan.step_seconds;
  json["predicted"] = std::move(predicted);
  json["bound"] = std::move(bound);
  return json;
}

PlanFile plan_file_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  check_format(object, kPlanFormat, 1);
  PlanFile plan;
  JsonObject topology = object.object("topology");
  plan.topology_name = topology.string("name");
  plan.topology_hash = topology.string("hash");
  const std::int64_t ranks = topology.integer("ranks", 1);
  require(ranks <= kMaxRanks, "[{}.topology.ranks] got {}; want at most {}",
          path, ranks, kMaxRanks);
  plan.ranks = static_cast<int>(ranks);
  topology.done();
  plan.model = saved_model_shape(object.value("model"), path + ".model");
  plan.layout = object.choice("layout", schedule::Layout::names());
  plan.mask = schedule::Mask::from_json(object.value("mask"), path + ".mask");
  plan.seq_len = object.integer("seq_len", 1);
  check(plan.model, path + ".model", plan.seq_len);
  JsonObject predicted = object.object("predicted");
  JsonObject bound = object.object("bound");
  const auto read_layers = [&](const char* kind, PlanFile::Layers layers) {
    layers.predicted = read_seconds(predicted.object(kind));
    layers.bound = read_seconds(bound.object(kind));
    return layers;
  };
  if (plan.model.softmax_layers() > 0) {
    const schedule::Strategy strategy = schedule::strategy_from_json(
        object.value("softmax"), path + ".softmax");
    if (const auto reason = schedule::why_not(strategy, plan.ranks)) {
      throw InvalidArgument(fmt::format("[{}.softmax] {}", path, *reason));
    }
    plan.softmax =
        read_layers("softmax", {.name = name(strategy), .strategy = strategy});
  }
  if (plan.model.linear_layers() > 0) {
    JsonObject linear = object.object("linear");
    // Older programs wrote "transport".
    const char* key = linear.has("transport") ? "transport" : "exchange";
    plan.linear = read_layers("linear", {.name = linear.string(key)});
    linear.done();
  }
  plan.step_seconds = predicted.number("step_seconds", 0);
  predicted.done();
  bound.done();
  object.done();
  return plan;
}

PlanFile read_plan_file(const std::string& path) {
  return plan_file_from_json(read_json_file(path), path);
}

void check_fits(const PlanFile& plan, const std::string& path, int ranks,
                const ModelShape& model, std::int64_t seq_len,
                const std::string& layout, const schedule::Mask& mask) {
  const auto same = [&](const char* what, const auto& planned,
                        const auto& got) {
    require(planned == got,
            "[plan] {} is for {} {}, and this runs with {}; want a plan made "
            "for it",
            path, what, planned, got);
  };
  same("ranks", plan.ranks, ranks);
  same("layers", plan.model.layers, model.layers);
  same("pattern", plan.model.pattern, model.pattern);
  same("heads", plan.model.heads, model.heads);
  same("kv_heads", plan.model.kv_heads, model.kv_heads);
  same("head_dim", plan.model.head_dim, model.head_dim);
  same("compute", name(plan.model.type), name(model.type));
  same("batch", plan.model.batch, model.batch);
  same("seq_len", plan.seq_len, seq_len);
  same("layout", plan.layout, layout);
  same("mask", plan.mask.to_json().dump(), mask.to_json().dump());
  same("linear layers of kind", plan.model.linear, model.linear);
  same("states of", state_text(plan.model), state_text(model));
}

void check_fits(const PlanFile& plan, const std::string& path,
                const Machine& machine) {
  require(plan.topology_hash == machine.hash,
          "[plan] {} is for the topology {} of hash {}, and {} has {}; want a "
          "plan made for it",
          path, plan.topology_name, plan.topology_hash, machine.name,
          machine.hash);
}

}  // namespace ringweave::planner
