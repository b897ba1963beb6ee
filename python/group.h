// What the operators keep for each process group: its communicator and plans.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/custom_class.h>

#include "python/plan_cache.h"
#include "ringweave/attention/attention.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::python {

/// One rank's state of one group. One thread at a time, as a Communicator.
struct GroupState {
  comm::Communicator communicator;
  PlanCache<attention::AttentionPlan> attention_plans = {};
  PlanCache<linear_attention::LinearPlan> linear_plans = {};
};

/// torch.classes.ringweave.Group: a group of Ringweave's own, made by the
/// package for a group of the program (python/ringweave/_groups.py).
class Group : public torch::CustomClassHolder {
 public:
  /// `name`: the same on all ranks, and another for each group that has the
  /// same store. `milliseconds`: of each wait. `mode`: of the agreement, the
  /// same on all ranks.
  Group(c10::intrusive_ptr<c10d::ProcessGroup> group, const std::string& name,
        std::int64_t milliseconds, const std::string& mode);

  /// Autograd graphs hold it too.
  const std::shared_ptr<GroupState>& state() const { return state_; }
  comm::Communicator& communicator() const { return state_->communicator; }

  // What Python sees.
  std::int64_t calls() const { return communicator().agreement()->calls(); }
  void refuse(const std::string& operation, const std::string& reason) const {
    communicator().refuse(operation, reason);
  }
  void set_agreement(const std::string& mode) const;
  /// The connections end; graphs that are still there can't run any more.
  void close() const;

 private:
  std::shared_ptr<GroupState> state_;
};

}  // namespace ringweave::python
