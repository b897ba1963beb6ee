// One rank's passes of a short convolution.
#pragma once

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/convolution/convolution_plan.h"

namespace ringweave::convolution {

/// Tensors as in causal_convolution(), checked.
struct Inputs {
  at::Tensor x, weight, bias, initial_state;
  bool final_state = false;
};

struct ForwardResult {
  at::Tensor out;
  at::Tensor final_state;  ///< undefined unless asked for
  at::Tensor table;        ///< backward needs it
};

ForwardResult run_forward(const Inputs& in, const ConvolutionPlan& plan,
                          comm::Communicator& communicator);

/// In the types of what they are of.
struct Gradients {
  at::Tensor x, weight, bias, initial_state;
};

/// Which gradients are wanted beside that of x; others stay undefined.
struct Wanted {
  bool weights = false;  ///< and of the bias
  bool initial_state = false;
};

/// `table`: that of the forward pass. `dfinal`: undefined without a final
/// state.
Gradients run_backward(const Inputs& in, const at::Tensor& table,
                       const at::Tensor& dout, const at::Tensor& dfinal,
                       const Wanted& wanted, const ConvolutionPlan& plan,
                       comm::Communicator& communicator);

}  // namespace ringweave::convolution
