#include "ringweave/convolution/convolution.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/base/error.h"
#include "ringweave/convolution/convolution_plan.h"
#include "ringweave/convolution/passes.h"
#include "ringweave/tensor/saved.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"
#include "ringweave/tensor/threads.h"

namespace ringweave::convolution {
namespace {

using tensor::bits_text;
using tensor::shape_text;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check_tensor(const char* name, const at::Tensor& x,
                  const std::vector<std::int64_t>& shape, at::ScalarType type) {
  require(x.defined(), "[convolution] got no {}; want shape {}", name,
          shape_text(shape));
  require(x.sizes() == at::IntArrayRef(shape),
          "[convolution] got {} of shape {}; want {}", name,
          shape_text(x.sizes()), shape_text(shape));
  require(x.scalar_type() == type, "[convolution] got {} of type {}; want {}",
          name, at::toString(x.scalar_type()), at::toString(type));
  require(x.device().is_cpu(),
          "[convolution] got {} on {}; want cpu: tokens travel in the memory "
          "of the host",
          name, x.device().str());
}

void check(const ConvolutionInputs& in, const ConvolutionPlan& plan,
           const comm::Communicator& communicator) {
  require(
      plan.ranks() == communicator.size() && plan.rank == communicator.rank(),
      "[convolution] got the plan of rank {} of {}; want rank {} of {}, as the "
      "communicator has",
      plan.rank, plan.ranks(), communicator.rank(), communicator.size());
  require(
      in.x.defined() && in.x.dim() == 3,
      "[convolution] got x of {} dimensions; want (batch, tokens, channels)",
      in.x.defined() ? in.x.dim() : 0);
  const at::ScalarType type = in.x.scalar_type();
  require(tensor::element_type(type).has_value(),
          "[convolution] got x of type {}; want float64, float32, "
          "bfloat16 or float16",
          at::toString(type));
  const std::int64_t batch = in.x.size(0);
  const std::int64_t channels = in.x.size(2);
  check_tensor("x", in.x,
               {batch, plan.spec.layout.shard_tokens(plan.rank), channels},
               type);
  require(batch > 0 && channels > 0,
          "[convolution] got x of shape {}; want at least one of the batch and "
          "one channel",
          shape_text(in.x.sizes()));
  const at::ScalarType sums = tensor::accumulate_type(type);
  check_tensor("weight", in.weight, {channels, plan.spec.width}, sums);
  if (in.bias.defined()) check_tensor("bias", in.bias, {channels}, sums);
  if (in.initial_state.defined()) {
    check_tensor("initial_state", in.initial_state,
                 {batch, plan.reach(), channels}, type);
  }
}

/// What of one call all ranks must have equal.
comm::Facts facts_of(const ConvolutionInputs& in, const ConvolutionPlan& plan,
                     const ConvolutionOptions& options) {
  const auto yes_no = [](bool yes) { return yes ? "yes" : "no"; };
  comm::Facts facts = plan.facts;
  facts.emplace_back("batch", fmt::format("{}", in.x.size(0)));
  facts.emplace_back("channels", fmt::format("{}", in.x.size(2)));
  facts.emplace_back("type", at::toString(in.x.scalar_type()));
  facts.emplace_back("bias", yes_no(in.bias.defined()));
  facts.emplace_back("initial_state", in.initial_state.defined()
                                          ? bits_text(in.initial_state)
                                          : "none");
  facts.emplace_back("final_state", yes_no(options.final_state));
  facts.emplace_back("requires a gradient", yes_no(options.backward));
  return facts;
}

/// What a call keeps for its backward, apart from tensors.
struct Call : torch::CustomClassHolder {
  std::shared_ptr<const ConvolutionPlan> plan;
  comm::Communicator* communicator = nullptr;
  std::int64_t number = 0;  ///< of the forward, among the communicator's calls
  ConvolutionOptions options;
  bool has_bias = false;
  bool has_initial = false;
};

class Convolution : public torch::autograd::Function<Convolution> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x,
                               const at::Tensor& weight,
                               const std::optional<at::Tensor>& bias,
                               const std::optional<at::Tensor>& initial,
                               c10::intrusive_ptr<Call> call) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const ConvolutionForward result =
        convolution_forward({x, weight, bias.value_or(at::Tensor()),
                             initial.value_or(at::Tensor())},
                            call->plan, *call->communicator, call->options);
    call->number = result.call;
    context->save_for_backward({x, weight, result.table});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    variable_list outputs = {result.out};
    if (call->options.final_state) outputs.push_back(result.final_state);
    return outputs;
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(
        context->saved_data["call"].toCapsule());
    const variable_list saved = call->communicator->or_refuse(
        "convolution backward",
        [&] { return tensor::saved_for_backward(*context, "convolution"); });
    const at::AutoDispatchBelowADInplaceOrView guard;
    // Inputs are counted among the defined ones.
    const WantedGradients wanted = {
        .weight = context->needs_input_grad(1),
        .bias = call->has_bias && context->needs_input_grad(2),
        .initial_state = call->has_initial &&
                         context->needs_input_grad(call->has_bias ? 3 : 2)};
    const ConvolutionGradients result = convolution_backward(
        gradients[0], call->options.final_state ? gradients[1] : at::Tensor(),
        {saved[0], saved[1], {}, {}},
        {.out = {}, .final_state = {}, .table = saved[2], .call = call->number},
        wanted, call->plan, *call->communicator, call->options);
    return {result.x, result.weight, result.bias, result.initial_state,
            at::Tensor()};
  }
};

void check_plan(const std::shared_ptr<const ConvolutionPlan>& plan) {
  require(plan != nullptr,
          "[convolution] got no plan; want one from make_convolution_plan");
}

std::optional<at::Tensor> if_defined(const at::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

}  // namespace

ConvolutionForward convolution_forward(
    const ConvolutionInputs& inputs,
    const std::shared_ptr<const ConvolutionPlan>& plan,
    comm::Communicator& communicator, const ConvolutionOptions& options) {
  check_plan(plan);
  tensor::take_over_thread_count();
  // What follows the messages may throw without harm: a checkpoint ends its
  // recomputation so, when its caller saves for backward.
  return communicator.call(
      "convolution", 0, [&] { check(inputs, *plan, communicator); },
      [&] { return facts_of(inputs, *plan, options); },
      [&](std::int64_t number) {
        ConvolutionForward result =
            run_forward(inputs, options.final_state, *plan, communicator);
        result.call = number;
        return result;
      });
}

ConvolutionGradients convolution_backward(
    const at::Tensor& grad_out, const at::Tensor& grad_final_state,
    const ConvolutionInputs& inputs, const ConvolutionForward& forward,
    const WantedGradients& wanted,
    const std::shared_ptr<const ConvolutionPlan>& plan,
    comm::Communicator& communicator, const ConvolutionOptions& options) {
  check_plan(plan);
  tensor::take_over_thread_count();
  return communicator.call(
      "convolution backward", forward.call, [] {}, [] { return comm::Facts(); },
      [&](std::int64_t) {
        const at::Tensor& x = inputs.x;
        const auto or_zeros = [&](const at::Tensor& gradient,
                                  std::int64_t rows) {
          return gradient.defined()
                     ? gradient
                     : at::zeros({x.size(0), rows, x.size(2)}, x.options());
        };
        return run_backward(
            inputs, forward.table, or_zeros(grad_out, x.size(1)),
            options.final_state ? or_zeros(grad_final_state, plan->reach())
                                : at::Tensor(),
            wanted, *plan, communicator);
      });
}

ConvolutionResult causal_convolution(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& initial_state,
    std::shared_ptr<const ConvolutionPlan> plan,
    comm::Communicator& communicator, const ConvolutionOptions& options) {
  check_plan(plan);
  auto call = c10::make_intrusive<Call>();
  call->plan = std::move(plan);
  call->communicator = &communicator;
  call->options = options;
  call->has_bias = bias.defined();
  call->has_initial = initial_state.defined();
  call->options.backward =
      at::GradMode::is_enabled() &&
      std::ranges::any_of(
          std::array{x, weight, bias, initial_state},
          [](const at::Tensor& t) { return t.defined() && t.requires_grad(); });
  if (!x.defined() || !weight.defined()) {  // autograd wants them
    check({x, weight, bias, initial_state}, *call->plan, communicator);
  }
  const variable_list outputs = Convolution::apply(
      x, weight, if_defined(bias), if_defined(initial_state), call);
  return {outputs[0], options.final_state ? outputs[1] : at::Tensor()};
}

std::map<Rank, std::int64_t> planned_bytes(const ConvolutionPlan& plan,
                                           const at::Tensor& x,
                                           bool final_state, bool backward) {
  const TablePlan& table = plan.table(final_state);
  const std::int64_t numbers = x.size(0) * x.size(2);
  const auto bytes = [&](std::int64_t tokens, at::ScalarType type) {
    return tokens * numbers * static_cast<std::int64_t>(at::elementSize(type));
  };
  std::map<Rank, std::int64_t> sent;
  for (const auto& [to, tokens] : table.sends) {
    sent[to] += bytes(tokens.size(0), x.scalar_type());
  }
  if (!backward) return sent;
  for (const auto& [from, tokens, rows] : table.receives) {
    sent[from] += bytes(tokens, tensor::accumulate_type(x.scalar_type()));
  }
  return sent;
}

}  // namespace ringweave::convolution
