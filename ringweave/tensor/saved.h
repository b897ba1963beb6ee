// What an operation's forward saved, in its backward.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/base/error.h"

namespace ringweave::tensor {

/// Throws InvalidArgument for a backward with create_graph, and torch's error
/// for what was changed in place, or was freed by a backward. To be called
/// before any guard that keeps autograd out: checkpointing runs the forward
/// pass again in here, and has to record it.
inline torch::autograd::variable_list saved_for_backward(
    torch::autograd::AutogradContext& context, const char* operation) {
  require(!at::GradMode::is_enabled(),
          "[{}] got a backward with create_graph; want one without: second "
          "derivatives are not supported",
          operation);
  return context.get_saved_variables();
}

}  // namespace ringweave::tensor
