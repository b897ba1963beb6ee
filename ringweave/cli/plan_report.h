// How a plan is printed.
#pragma once

#include <string>

#include "ringweave/base/json.h"
#include "ringweave/planner/planner.h"

namespace ringweave::cli {

struct PlanReport {
  const planner::PlanRequest& request;
  std::string layout;
  const planner::Planned& planned;
};

std::string table(const PlanReport& report);
Json to_json(const PlanReport& report);

}  // namespace ringweave::cli
