// What the operators keep for each process group: its communicator and plans.
#pragma once

#include <memory>
#include <string>

#include "python/plan_cache.h"
#include "ringweave/attention/attention.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::python {

/// One rank's state of one group. One thread at a time, as a Communicator.
class GroupState {
 public:
  explicit GroupState(const std::string& group);

  comm::Communicator& communicator() { return communicator_; }
  PlanCache<attention::AttentionPlan>& attention_plans() { return attention_; }
  PlanCache<linear_attention::LinearPlan>& linear_plans() { return linear_; }

 private:
  comm::Communicator communicator_;
  PlanCache<attention::AttentionPlan> attention_;
  PlanCache<linear_attention::LinearPlan> linear_;
};

/// The state of the process group of that name. Lives until the process ends,
/// because autograd graphs refer to it: an operator has no other owner to give
/// it to. A group that took over the name of a destroyed one gets its own.
/// Throws InvalidArgument if there is no such group.
GroupState& group_state(const std::string& group);

}  // namespace ringweave::python
