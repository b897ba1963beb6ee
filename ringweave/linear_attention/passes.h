// One rank's forward and backward pass, without autograd.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/linear_attention/inputs.h"
#include "ringweave/linear_attention/linear_plan.h"
#include "ringweave/linear_attention/segment.h"

namespace ringweave::linear_attention {

/// Every rank calls it. `initial`: undefined (zero) or of the states' type.
LinearForward run_forward(const Inputs& inputs, const at::Tensor& initial,
                          bool final_state, const LinearPlan& plan,
                          comm::Communicator& communicator);

/// Every rank calls it. `dfinal`: this rank's part of the gradient; undefined
/// unless the final state was asked for. The gradient of the initial state is
/// zero but on the rank with the first segment.
LinearGradients run_backward(const Inputs& inputs, const LinearForward& forward,
                             const at::Tensor& dout, const at::Tensor& dfinal,
                             bool want_gates, const LinearPlan& plan,
                             comm::Communicator& communicator);

/// As planned_bytes() of linear_attention.h. Of the inputs only shapes, types
/// and the kind of decay are read.
std::map<Rank, std::int64_t> planned_bytes(const Inputs& inputs, bool backward,
                                           const LinearPlan& plan);

}  // namespace ringweave::linear_attention
