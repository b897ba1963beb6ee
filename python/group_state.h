// What the operators keep for each process group: its communicator and plans.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ringweave/attention/attention.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/planner/plan_file.h"

namespace ringweave::python {

/// A plan is made once for a spec. Packed documents bring a new mask with every
/// batch, so that only the latest few are kept.
template <typename Plan>
class PlanCache {
 public:
  /// `make` is called for a spec whose `key` is not there.
  template <typename Make>
  std::shared_ptr<const Plan> get(const std::string& key, const Make& make) {
    for (const auto& [known, plan] : plans_) {
      if (known == key) return plan;
    }
    if (plans_.size() == kKept) plans_.erase(plans_.begin());
    return plans_.emplace_back(key, make()).second;
  }

 private:
  static constexpr std::size_t kKept = 32;
  std::vector<std::pair<std::string, std::shared_ptr<const Plan>>> plans_;
};

/// One rank's state of one group. One thread at a time, as a Communicator.
class GroupState {
 public:
  explicit GroupState(const std::string& group);

  comm::Communicator& communicator() { return communicator_; }
  std::shared_ptr<const attention::AttentionPlan> attention_plan(
      const attention::AttentionSpec& spec);
  std::shared_ptr<const linear_attention::LinearPlan> linear_plan(
      const linear_attention::LinearSpec& spec);
  /// Read anew when the file has changed.
  std::shared_ptr<const planner::PlanFile> plan_file(const std::string& path);

 private:
  comm::Communicator communicator_;
  PlanCache<attention::AttentionPlan> attention_;
  PlanCache<linear_attention::LinearPlan> linear_;
  PlanCache<planner::PlanFile> files_;
};

/// The state of the process group of that name. Lives until the process ends,
/// because autograd graphs refer to it: an operator has no other owner to give
/// it to. A group that took over the name of a destroyed one gets its own.
/// Throws InvalidArgument if there is no such group.
GroupState& group_state(const std::string& group);

}  // namespace ringweave::python
