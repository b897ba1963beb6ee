// One rank's passes of a short convolution.
#pragma once

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/convolution/convolution.h"
#include "ringweave/convolution/convolution_plan.h"

namespace ringweave::convolution {

/// The inputs were checked. The number of the call is not set.
ConvolutionForward run_forward(const ConvolutionInputs& in, bool final_state,
                               const ConvolutionPlan& plan,
                               comm::Communicator& communicator);

/// `table`: that of the forward pass, or with more rows. `dfinal`: undefined
/// without a final state.
ConvolutionGradients run_backward(const ConvolutionInputs& in,
                                  const at::Tensor& table,
                                  const at::Tensor& dout,
                                  const at::Tensor& dfinal,
                                  const WantedGradients& wanted,
                                  const ConvolutionPlan& plan,
                                  comm::Communicator& communicator);

}  // namespace ringweave::convolution
