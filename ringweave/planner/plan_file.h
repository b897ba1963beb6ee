// A plan as a file: what the planner chose, for what, and what it promised.
//
//   {"format": "ringweave.plan", "version": 1, "topology": {"name", "hash",
//    "ranks"}, "model": {…}, "layout": "zigzag", "mask": {…}, "seq_len": N,
//    "softmax": {"name": "multi_ring"}, "linear": {"exchange": "all_gather"},
//    "predicted": {…}, "bound": {…}}
#pragma once

#include <optional>
#include <string>

#include "ringweave/base/json.h"
#include "ringweave/planner/planner.h"

namespace ringweave::planner {

/// Seconds of one layer.
struct PassSeconds {
  double forward = 0;
  double backward = 0;
  friend bool operator==(const PassSeconds&, const PassSeconds&) = default;
};

struct PlanFile {
  struct Layers {
    std::string name;  ///< of a strategy or exchange
    std::optional<schedule::Strategy> strategy = {};  ///< softmax only
    PassSeconds predicted = {};
    PassSeconds bound = {};
    friend bool operator==(const Layers&, const Layers&) = default;
  };

  std::string topology_name;
  std::string topology_hash;
  int ranks = 1;
  ModelShape model;
  std::string layout = "zigzag";  ///< a name of Layout
  schedule::Mask mask = schedule::Mask::causal();
  std::int64_t seq_len = 1;
  std::optional<Layers> softmax = {};  ///< absent: the model has no such layer
  std::optional<Layers> linear = {};
  double step_seconds = 0;
  friend bool operator==(const PlanFile&, const PlanFile&) = default;
};

/// `layout` is the name that request.layout was made by.
PlanFile plan_file(const PlanRequest& request, const std::string& layout,
                   const Planned& planned);

Json to_json(const PlanFile& plan);
/// Throws InvalidArgument naming the first field that can't be used.
PlanFile plan_file_from_json(const Json& json, const std::string& path);
PlanFile read_plan_file(const std::string& path);

/// Throws InvalidArgument naming the first thing for which `plan`, read from
/// `path`, was not made. Fields of `model` that cost nothing here may differ.
void check_fits(const PlanFile& plan, const std::string& path, int ranks,
                const ModelShape& model, std::int64_t seq_len,
                const std::string& layout, const schedule::Mask& mask);
void check_fits(const PlanFile& plan, const std::string& path,
                const Machine& machine);

}  // namespace ringweave::planner
