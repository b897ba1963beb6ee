// What the operators keep for each process group: its communicator and plans.
// An operator names the program's group, as a graph that was compiled can hold
// no more of it.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/custom_class.h>

#include "python/plan_cache.h"
#include "ringweave/attention/attention.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/convolution/convolution.h"
#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::python {

/// One rank's state of one group. One thread at a time, as a Communicator.
struct GroupState {
  comm::Communicator communicator;
  PlanCache<attention::AttentionPlan> attention_plans = {};
  PlanCache<linear_attention::LinearPlan> linear_plans = {};
  PlanCache<convolution::ConvolutionPlan> convolution_plans = {};
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

  /// A Session holds it too.
  const std::shared_ptr<GroupState>& state() const { return state_; }
  comm::Communicator& communicator() const { return state_->communicator; }

  // What Python sees.
  std::int64_t calls() const { return communicator().agreement()->calls(); }
  void refuse(const std::string& operation, const std::string& reason) const {
    communicator().refuse(operation, reason);
  }
  /// A call that moves no data: `facts` are what all ranks must have equal.
  void agree(const std::string& operation,
             const c10::Dict<std::string, std::string>& facts) const;
  void set_agreement(const std::string& mode) const;
  /// The connections end, and group_of() finds it no more.
  void close();

 private:
  std::shared_ptr<GroupState> state_;
};

using GroupPtr = c10::intrusive_ptr<Group>;

/// From now on group_of() finds `own` by the name of the program's group, for
/// as long as that group is there.
void serve(const std::string& name, const GroupPtr& own);

/// The group that serves the program's group of that name. Where there is none
/// yet, the operator open_group makes it: all members come here in their first
/// call. Throws InvalidArgument if there is no such group in the program. For
/// several threads.
GroupPtr group_of(const std::string& name);

/// A call that this rank can't make for what `make` throws: the group's other
/// ranks learn of it. Returns what `make` returns.
template <typename Make>
auto or_refuse(const std::string& group, const std::string& operation,
               const Make& make) {
  try {
    return make();
  } catch (const std::exception& error) {
    group_of(group)->communicator().refuse(operation, error.what());
    throw;
  }
}

}  // namespace ringweave::python
