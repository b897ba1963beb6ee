// Short convolutions as a pair of functional operators, and their gradient.
//
//   convolution_forward(x, weight, bias, initial_state, …)
//     -> (out, final_state, table, call)
//   convolution_backward(grad_out, grad_final_state, x, weight, table, call, …)
//     -> (dx, dweight, dbias, dinitial_state)
//
// Nothing is kept outside of these tensors. What was not asked for is empty:
// final_state and its gradient, the table without a backward, gradients beside
// that of x. `call` is arguments.h's record.
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "python/arguments.h"
#include "python/group.h"
#include "python/operators.h"
#include "ringweave/base/error.h"
#include "ringweave/convolution/convolution.h"
#include "ringweave/tensor/saved.h"

namespace ringweave::python::convolution_op {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Forward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Backward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// What a call has besides tensors: group, layout, tokens, ranks, mask, left,
/// right, final_state.
using Constants =
    std::tuple<std::string, std::string, c10::SymInt, std::int64_t, std::string,
               MaybeSymInt, MaybeSymInt, bool>;

using ForwardOp = Forward(const at::Tensor& x, const at::Tensor& weight,
                          const MaybeTensor& bias,
                          const MaybeTensor& initial_state,
                          const MaybeTensor& documents,
                          const std::string& group, const std::string& layout,
                          c10::SymInt tokens, std::int64_t ranks,
                          const std::string& mask, MaybeSymInt left,
                          MaybeSymInt right, bool final_state, bool backward);
using BackwardOp = Backward(
    const MaybeTensor& grad_out, const MaybeTensor& grad_final_state,
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& table,
    const at::Tensor& call, const MaybeTensor& documents,
    const std::string& group, const std::string& layout, c10::SymInt tokens,
    std::int64_t ranks, const std::string& mask, MaybeSymInt left,
    MaybeSymInt right, bool final_state, bool want_weight, bool want_bias,
    bool want_initial_state);

struct Prepared {
  Key key;
  std::shared_ptr<const convolution::ConvolutionPlan> plan;
};

Prepared prepare(const at::Tensor& weight, const Placement& placement,
                 const Visibility& visibility, GroupState& state) {
  require(weight.dim() == 2 && weight.size(1) >= 1,
          "[convolution] got a weight of {} dimensions; want (channels, "
          "width)",
          weight.dim());
  const std::int64_t width = weight.size(1);
  Prepared result;
  result.key.add(placement).add(visibility).add(width);
  result.plan = state.convolution_plans.get(
      result.key.bytes(),
      [&]() -> PlanCache<convolution::ConvolutionPlan>::Made {
        const schedule::Mask mask = mask_of(visibility);
        return {
            convolution::make_convolution_plan(
                {.layout = layout_of(placement), .width = width, .mask = mask},
                state.communicator.rank()),
            !mask.document_offsets().empty()};
      });
  return result;
}

/// Rows of a table, at most: a formula of constants. What of them is not used
/// is 0.
std::int64_t table_room(const std::string& layout, std::int64_t ranks,
                        std::int64_t width, bool final_state) {
  return (run_counts(layout, ranks).largest + (final_state ? 1 : 0)) *
         (width - 1);
}

Forward forward_kernel(const at::Tensor& x, const at::Tensor& weight,
                       const MaybeTensor& bias,
                       const MaybeTensor& initial_state,
                       const MaybeTensor& documents, const std::string& group,
                       const std::string& layout, std::int64_t tokens,
                       std::int64_t ranks, const std::string& mask,
                       std::optional<std::int64_t> left,
                       std::optional<std::int64_t> right, bool final_state,
                       bool backward) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  const Prepared prepared = communicator.or_refuse("convolution", [&] {
    return prepare(weight, {layout, tokens, ranks},
                   {mask, left, right, documents}, *own->state());
  });
  const convolution::ConvolutionForward result =
      convolution::convolution_forward(
          {x, weight, bias.value_or(at::Tensor()),
           initial_state.value_or(at::Tensor())},
          prepared.plan, communicator,
          {.final_state = final_state, .backward = backward});
  return {result.out, final_state ? result.final_state : nothing(x),
          backward ? with_room(
                         result.table, 1,
                         table_room(layout, ranks, weight.size(1), final_state))
                   : nothing(x),
          call_record(communicator, result.call, prepared.key)};
}

Forward forward_shapes(const at::Tensor& x, const at::Tensor& weight,
                       const MaybeTensor&, const MaybeTensor&,
                       const MaybeTensor&, const std::string&,
                       const std::string& layout, c10::SymInt,
                       std::int64_t ranks, const std::string&, MaybeSymInt,
                       MaybeSymInt, bool final_state, bool backward) {
  const at::Tensor call = at::empty({2}, x.options().dtype(at::kLong));
  const at::Tensor out = at::empty_symint(x.sym_sizes(), x.options());
  if (x.dim() != 3 || weight.dim() != 2) {
    return {out, nothing(x), nothing(x), call};  // refused
  }
  // The width is a constant of a graph.
  const std::int64_t width = weight.sym_size(1).guard_int(__FILE__, __LINE__);
  const auto rows = [&](std::int64_t count) {
    return at::empty_symint({x.sym_size(0), count, x.sym_size(2)}, x.options());
  };
  return {out, final_state ? rows(width - 1) : nothing(x),
          backward ? rows(table_room(layout, ranks, width, final_state))
                   : nothing(x),
          call};
}

Backward backward_kernel(const MaybeTensor& grad_out,
                         const MaybeTensor& grad_final_state,
                         const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& table, const at::Tensor& call,
                         const MaybeTensor& documents, const std::string& group,
                         const std::string& layout, std::int64_t tokens,
                         std::int64_t ranks, const std::string& mask,
                         std::optional<std::int64_t> left,
                         std::optional<std::int64_t> right, bool final_state,
                         bool want_weight, bool want_bias,
                         bool want_initial_state) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  constexpr const char* kOperation = "convolution backward";
  const auto [prepared, number] = communicator.or_refuse(kOperation, [&] {
    Prepared prepared = prepare(weight, {layout, tokens, ranks},
                                {mask, left, right, documents}, *own->state());
    const std::int64_t number = call_number(call, prepared.key, kOperation);
    return std::pair(std::move(prepared), number);
  });
  const convolution::ConvolutionGradients result =
      convolution::convolution_backward(
          grad_out.value_or(at::Tensor()),
          grad_final_state.value_or(at::Tensor()), {x, weight, {}, {}},
          {.out = {}, .final_state = {}, .table = table, .call = number},
          {.weight = want_weight,
           .bias = want_bias,
           .initial_state = want_initial_state},
          prepared.plan, communicator, {.final_state = final_state});
  return {result.x, want_weight ? result.weight : nothing(x),
          want_bias ? result.bias : nothing(x),
          want_initial_state ? result.initial_state : nothing(x)};
}

Backward backward_shapes(const MaybeTensor&, const MaybeTensor&,
                         const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor&, const at::Tensor&,
                         const MaybeTensor&, const std::string&,
                         const std::string&, c10::SymInt, std::int64_t,
                         const std::string&, MaybeSymInt, MaybeSymInt, bool,
                         bool want_weight, bool want_bias,
                         bool want_initial_state) {
  const auto make = [](std::vector<c10::SymInt> shape, const at::Tensor& of) {
    return at::empty_symint(shape, of.options());
  };
  return {make(x.sym_sizes().vec(), x),
          want_weight ? make(weight.sym_sizes().vec(), weight) : nothing(x),
          want_bias ? make({weight.sym_size(0)}, weight) : nothing(x),
          want_initial_state
              ? make({x.sym_size(0), weight.sym_size(1) - 1, x.sym_size(2)}, x)
              : nothing(x)};
}

Forward call_forward(const at::Tensor& x, const at::Tensor& weight,
                     const MaybeTensor& bias, const MaybeTensor& initial_state,
                     const MaybeTensor& documents, const Constants& constants,
                     bool backward) {
  static const auto op =
      operator_of<ForwardOp>("ringweave::convolution_forward");
  const at::AutoDispatchBelowADInplaceOrView below;
  return std::apply(
      [&](const auto&... each) {
        return op.call(x, weight, bias, initial_state, documents, each...,
                       backward);
      },
      constants);
}

struct Convolution : public torch::autograd::Function<Convolution> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x,
                               const at::Tensor& weight,
                               const MaybeTensor& bias,
                               const MaybeTensor& initial_state,
                               const MaybeTensor& documents,
                               const Constants& constants) {
    const auto [out, final_state, table, call] =
        call_forward(x, weight, bias, initial_state, documents, constants,
                     /*backward=*/true);
    context->save_for_backward(
        {x, weight, table, call, documents.value_or(at::Tensor())});
    context->saved_data["constants"] = constants;
    context->saved_data["has_bias"] = bias.has_value();
    context->saved_data["has_initial_state"] = initial_state.has_value();
    variable_list constant = {table, call};
    if (!std::get<bool>(constants)) constant.push_back(final_state);
    context->mark_non_differentiable(constant);
    context->set_materialize_grads(false);
    return {out, final_state, table, call};
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto constants = context->saved_data["constants"].to<Constants>();
    const variable_list saved = or_refuse(
        std::get<0>(constants), "convolution backward",
        [&] { return tensor::saved_for_backward(*context, "convolution"); });
    // Counted among the inputs that are there.
    std::size_t edge = 2;
    const auto wanted = [&](const char* has) {
      return context->saved_data[has].toBool() &&
             context->needs_input_grad(edge++);
    };
    const bool want_bias = wanted("has_bias");
    const bool want_initial_state = wanted("has_initial_state");
    const bool want_weight = context->needs_input_grad(1);
    static const auto op =
        operator_of<BackwardOp>("ringweave::convolution_backward");
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [dx, dweight, dbias, dinitial] = std::apply(
        [&](const auto&... each) {
          return op.call(if_defined(gradients[0]), if_defined(gradients[1]),
                         saved[0], saved[1], saved[2], saved[3],
                         if_defined(saved[4]), each..., want_weight, want_bias,
                         want_initial_state);
        },
        constants);
    return {dx,
            want_weight ? dweight : at::Tensor(),
            want_bias ? dbias : at::Tensor(),
            want_initial_state ? dinitial : at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }
};

/// A compiled graph says itself whether there is a backward.
Forward forward_with_gradient(
    const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
    const MaybeTensor& initial_state, const MaybeTensor& documents,
    const std::string& group, const std::string& layout, c10::SymInt tokens,
    std::int64_t ranks, const std::string& mask, MaybeSymInt left,
    MaybeSymInt right, bool final_state, bool backward) {
  const Constants constants = {group, layout, tokens, ranks,
                               mask,  left,   right,  final_state};
  if (!at::GradMode::is_enabled() ||
      !(x.requires_grad() || weight.requires_grad() || requires_grad(bias) ||
        requires_grad(initial_state))) {
    return call_forward(x, weight, bias, initial_state, documents, constants,
                        backward);
  }
  const variable_list results =
      Convolution::apply(x, weight, bias, initial_state, documents, constants);
  return {results[0], results[1], results[2], results[3]};
}

#define RINGWEAVE_CONVOLUTION_CONSTANTS                                  \
  "Tensor? documents, str group, str layout, SymInt tokens, int ranks, " \
  "str mask, SymInt? left, SymInt? right, bool final_state"

TORCH_LIBRARY_FRAGMENT(ringweave, library) {
  library.def(
      "convolution_forward(Tensor x, Tensor weight, Tensor? bias, Tensor? "
      "initial_state, " RINGWEAVE_CONVOLUTION_CONSTANTS
      ", bool backward=False) -> (Tensor out, Tensor final_state, Tensor "
      "table, Tensor call)");
  library.def(
      "convolution_backward(Tensor? grad_out, Tensor? grad_final_state, Tensor "
      "x, Tensor weight, Tensor table, Tensor "
      "call, " RINGWEAVE_CONVOLUTION_CONSTANTS
      ", bool want_weight, bool want_bias, bool want_initial_state) -> (Tensor "
      "dx, Tensor dweight, Tensor dbias, Tensor dinitial_state)");
}

RINGWEAVE_IMPLEMENT("convolution")

}  // namespace
}  // namespace ringweave::python::convolution_op
