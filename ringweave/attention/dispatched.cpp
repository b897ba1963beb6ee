#include "ringweave/attention/dispatched.h"

#include <optional>
#include <utility>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/TensorOptions.h>

#include "ringweave/base/error.h"

namespace ringweave::attention {

bool has_operation(const std::string& operation, at::Device device) {
  const auto found = c10::Dispatcher::singleton().findSchema({operation, ""});
  if (!found) return false;
  return found->hasKernelForDispatchKey(
      c10::computeDispatchKey(std::nullopt, std::nullopt, device));
}

std::vector<at::Tensor> call_operation(const std::string& operation,
                                       Arguments arguments) {
  const auto handle =
      c10::Dispatcher::singleton().findSchemaOrThrow(operation.c_str(), "");
  torch::jit::Stack stack;
  for (const c10::Argument& argument : handle.schema().arguments()) {
    if (auto given = arguments.extract(argument.name())) {
      stack.push_back(std::move(given.mapped()));
      continue;
    }
    ensure(argument.default_value().has_value(), "{} wants {}", operation,
           argument.name());
    stack.push_back(*argument.default_value());
  }
  ensure(arguments.empty(), "{} has no {}", operation,
         arguments.empty() ? "" : arguments.begin()->first);
  handle.callBoxed(stack);
  std::vector<at::Tensor> results;
  for (c10::IValue& value : stack) {
    if (value.isTensor()) results.push_back(std::move(value).toTensor());
  }
  return results;
}

}  // namespace ringweave::attention
