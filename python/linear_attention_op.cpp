// Linear attention as a pair of functional operators, and their gradient.
//
//   linear_attention_forward(q, k, v, gates, initial_state, …)
//     -> (out, final_state, states, decays, call)
//   linear_attention_backward(grad_out, grad_final_state, q, k, v, gates,
//     initial_state, states, decays, call, …)
//     -> (dq, dk, dv, dgates, dinitial_state)
//
// Nothing is kept outside of these tensors. What was not asked for is empty:
// final_state and its gradient, states and decays without a backward, gradients
// of gates and of the initial state. `call` is arguments.h's record.
#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "python/arguments.h"
#include "python/group.h"
#include "python/operators.h"
#include "ringweave/base/error.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/tensor/saved.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::python::linear_attention_op {
namespace {

using linear_attention::Decay;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Forward =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Backward =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using MaybeString = std::optional<std::string>;

/// What a call has besides tensors: group, layout, tokens, ranks, mask, left,
/// right, scale, exchange, plan, final_state.
using Constants =
    std::tuple<std::string, std::string, c10::SymInt, std::int64_t, std::string,
               MaybeSymInt, MaybeSymInt, double, std::string, MaybeString,
               bool>;

using ForwardOp = Forward(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v, const MaybeTensor& gates,
                          const MaybeTensor& initial_state,
                          const MaybeTensor& documents,
                          const std::string& group, const std::string& layout,
                          c10::SymInt tokens, std::int64_t ranks,
                          const std::string& mask, MaybeSymInt left,
                          MaybeSymInt right, double scale,
                          const std::string& exchange, const MaybeString& plan,
                          bool final_state, bool backward);
using BackwardOp = Backward(
    const MaybeTensor& grad_out, const MaybeTensor& grad_final_state,
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const MaybeTensor& gates, const MaybeTensor& initial_state,
    const at::Tensor& states, const at::Tensor& decays, const at::Tensor& call,
    const MaybeTensor& documents, const std::string& group,
    const std::string& layout, c10::SymInt tokens, std::int64_t ranks,
    const std::string& mask, MaybeSymInt left, MaybeSymInt right, double scale,
    const std::string& exchange, const MaybeString& plan, bool final_state,
    bool want_gates, bool want_initial_state);

Decay decay_of(const MaybeTensor& gates) {
  if (!gates) return Decay::none;
  switch (gates->dim()) {
    case 1:
      return Decay::constant;
    case 3:
      return Decay::per_head;
    case 4:
      return Decay::per_key;
    default:
      throw InvalidArgument(fmt::format(
          "[linear_attention] got gates of {} dimensions; want (heads), "
          "(batch, tokens, heads) or (batch, tokens, heads, key_dim)",
          gates->dim()));
  }
}

/// What the two passes make of their constants.
struct Prepared {
  Key key;
  std::shared_ptr<const linear_attention::LinearPlan> plan;
  linear_attention::LinearInputs inputs;
};

Prepared prepare(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const MaybeTensor& gates, const MaybeTensor& initial_state,
                 const Placement& placement, const Visibility& visibility,
                 const std::string& exchange, const MaybeString& plan_file,
                 GroupState& state) {
  const comm::Communicator& communicator = state.communicator;
  Prepared result;
  result.key.add(placement).add(visibility).add(plan_file, exchange, q, k);
  result.plan = state.linear_plans.get(
      result.key.bytes(),
      [&]() -> PlanCache<linear_attention::LinearPlan>::Made {
        const schedule::Layout layout = layout_of(placement);
        const schedule::Mask mask = mask_of(visibility);
        std::string way = exchange;
        if (plan_file) {
          const planner::PlanFile file = planner::read_plan_file(*plan_file);
          require(file.linear.has_value(),
                  "[linear_attention] got {}, a plan without linear layers; "
                  "want one with",
                  *plan_file);
          check_fits(file, *plan_file, q, k, layout, mask, communicator.size());
          way = file.linear->name;
        }
        return {linear_attention::make_linear_plan(
                    {.exchange = schedule::state_exchange_from_name(way),
                     .layout = layout,
                     .mask = mask},
                    communicator.rank()),
                !mask.document_offsets().empty()};
      });
  result.inputs = {q,
                   k,
                   v,
                   decay_of(gates),
                   gates.value_or(at::Tensor()),
                   initial_state.value_or(at::Tensor())};
  return result;
}

bool has_decays(const MaybeTensor& gates) { return gates && gates->dim() > 1; }

/// Rows of `states` and of `decays`, at most: formulas of the number of this
/// rank's tokens, the same for the shapes of a compiled graph and for memory.
/// What of them is not used is 0.
template <typename Int>
Int states_room(const std::string& layout, const Int& own, std::int64_t ranks) {
  return own / Int(linear_attention::kTokensPerState) +
         run_counts(layout, ranks).largest;
}

std::int64_t decays_room(const std::string& layout, std::int64_t ranks) {
  return run_counts(layout, ranks).all;
}

Forward forward_kernel(const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v, const MaybeTensor& gates,
                       const MaybeTensor& initial_state,
                       const MaybeTensor& documents, const std::string& group,
                       const std::string& layout, std::int64_t tokens,
                       std::int64_t ranks, const std::string& mask,
                       std::optional<std::int64_t> left,
                       std::optional<std::int64_t> right, double scale,
                       const std::string& exchange, const MaybeString& plan,
                       bool final_state, bool backward) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  const Prepared prepared = communicator.or_refuse("linear_attention", [&] {
    return prepare(q, k, v, gates, initial_state, {layout, tokens, ranks},
                   {mask, left, right, documents}, exchange, plan,
                   *own->state());
  });
  const linear_attention::LinearForward result =
      linear_attention::linear_attention_forward(
          prepared.inputs, prepared.plan, communicator,
          {.scale = scale, .final_state = final_state, .backward = backward});
  return {result.out, final_state ? result.final_state : nothing(q),
          backward ? linear_attention::join_states(
                         result.states, states_room(layout, q.size(1), ranks),
                         prepared.inputs, *prepared.plan)
                   : nothing(q),
          backward && result.decays.defined()
              ? with_room(result.decays, 0, decays_room(layout, ranks))
              : nothing(q),
          call_record(communicator, result.call, prepared.key)};
}

/// Heads are constants of a graph.
std::int64_t heads_of(const MaybeTensor& x, std::int64_t dim) {
  return x ? x->sym_size(dim).guard_int(__FILE__, __LINE__) : 1;
}

Forward forward_shapes(const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v, const MaybeTensor& gates,
                       const MaybeTensor&, const MaybeTensor&,
                       const std::string&, const std::string& layout,
                       c10::SymInt, std::int64_t ranks, const std::string&,
                       MaybeSymInt, MaybeSymInt, double, const std::string&,
                       const MaybeString&, bool final_state, bool backward) {
  const at::Tensor call = at::empty({2}, q.options().dtype(at::kLong));
  const bool constant = gates && gates->dim() == 1;
  if (q.dim() != 4 || k.dim() != 4 || v.dim() != 4 ||
      (gates && !constant && gates->dim() != 3 && gates->dim() != 4)) {
    return {at::empty_symint(v.sym_sizes(), v.options()), nothing(q),
            nothing(q), nothing(q), call};  // refused
  }
  const std::int64_t states = std::max<std::int64_t>(
      1, std::lcm(std::lcm(heads_of(k, 2), heads_of(v, 2)),
                  heads_of(gates, constant ? 0 : 2)));
  const std::int64_t heads = std::max(states, heads_of(q, 2));
  const auto options =
      q.options().dtype(tensor::accumulate_type(q.scalar_type()));
  std::vector<c10::SymInt> state = {q.sym_size(0), states, q.sym_size(3),
                                    v.sym_size(3)};
  const auto rows_of = [&](const c10::SymInt& rows,
                           std::vector<c10::SymInt> shape) {
    shape.insert(shape.begin(), rows);
    return at::empty_symint(shape, options);
  };
  const bool per_key = gates && gates->dim() == 4;
  return {
      at::empty_symint({q.sym_size(0), q.sym_size(1), heads, v.sym_size(3)},
                       v.options()),
      final_state ? at::empty_symint(state, options) : nothing(q),
      backward ? rows_of(states_room(layout, q.sym_size(1), ranks), state)
               : nothing(q),
      backward && has_decays(gates)
          ? rows_of(decays_room(layout, ranks),
                    {state[0], states, per_key ? state[2] : c10::SymInt(1), 1})
          : nothing(q),
      call};
}

Backward backward_kernel(
    const MaybeTensor& grad_out, const MaybeTensor& grad_final_state,
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const MaybeTensor& gates, const MaybeTensor& initial_state,
    const at::Tensor& states, const at::Tensor& decays, const at::Tensor& call,
    const MaybeTensor& documents, const std::string& group,
    const std::string& layout, std::int64_t tokens, std::int64_t ranks,
    const std::string& mask, std::optional<std::int64_t> left,
    std::optional<std::int64_t> right, double scale,
    const std::string& exchange, const MaybeString& plan, bool final_state,
    bool want_gates, bool want_initial_state) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  constexpr const char* kOperation = "linear_attention backward";
  const auto [prepared, number] = communicator.or_refuse(kOperation, [&] {
    Prepared prepared =
        prepare(q, k, v, gates, initial_state, {layout, tokens, ranks},
                {mask, left, right, documents}, exchange, plan, *own->state());
    const std::int64_t number = call_number(call, prepared.key, kOperation);
    return std::pair(std::move(prepared), number);
  });
  const linear_attention::LinearGradients result =
      linear_attention::linear_attention_backward(
          grad_out.value_or(at::Tensor()),
          grad_final_state.value_or(at::Tensor()), prepared.inputs,
          {.states = linear_attention::split_states(states, *prepared.plan),
           .decays = decays,
           .call = number},
          want_gates, prepared.plan, communicator,
          {.scale = scale, .final_state = final_state});
  return {result.q, result.k, result.v, want_gates ? result.gates : nothing(q),
          want_initial_state ? result.initial_state : nothing(q)};
}

Backward backward_shapes(const MaybeTensor&, const MaybeTensor&,
                         const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, const MaybeTensor& gates,
                         const MaybeTensor& initial_state, const at::Tensor&,
                         const at::Tensor&, const at::Tensor&,
                         const MaybeTensor&, const std::string&,
                         const std::string&, c10::SymInt, std::int64_t,
                         const std::string&, MaybeSymInt, MaybeSymInt, double,
                         const std::string&, const MaybeString&, bool,
                         bool want_gates, bool want_initial_state) {
  const auto like = [](const at::Tensor& x) {
    return at::empty_symint(x.sym_sizes(), x.options());
  };
  return {like(q), like(k), like(v), want_gates ? like(*gates) : nothing(q),
          want_initial_state ? like(*initial_state) : nothing(q)};
}

Forward call_forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, const MaybeTensor& gates,
                     const MaybeTensor& initial_state,
                     const MaybeTensor& documents, const Constants& constants,
                     bool backward) {
  static const auto op =
      operator_of<ForwardOp>("ringweave::linear_attention_forward");
  const at::AutoDispatchBelowADInplaceOrView below;
  return std::apply(
      [&](const auto&... each) {
        return op.call(q, k, v, gates, initial_state, documents, each...,
                       backward);
      },
      constants);
}

struct LinearAttention : public torch::autograd::Function<LinearAttention> {
  static variable_list forward(AutogradContext* context, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v,
                               const MaybeTensor& gates,
                               const MaybeTensor& initial_state,
                               const MaybeTensor& documents,
                               const Constants& constants) {
    const auto [out, final_state, states, decays, call] =
        call_forward(q, k, v, gates, initial_state, documents, constants,
                     /*backward=*/true);
    const at::Tensor none;
    context->save_for_backward({q, k, v, gates.value_or(none),
                                initial_state.value_or(none), states, decays,
                                call, documents.value_or(none)});
    context->saved_data["constants"] = constants;
    variable_list constant = {states, decays, call};
    if (!std::get<bool>(constants)) constant.push_back(final_state);
    context->mark_non_differentiable(constant);
    context->set_materialize_grads(false);
    return {out, final_state, states, decays, call};
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto constants = context->saved_data["constants"].to<Constants>();
    const variable_list saved =
        or_refuse(std::get<0>(constants), "linear_attention backward", [&] {
          return tensor::saved_for_backward(*context, "linear_attention");
        });
    // Counted among the inputs that are defined.
    std::size_t edge = 3;
    const auto wanted = [&](const at::Tensor& x) {
      return x.defined() && context->needs_input_grad(edge++);
    };
    const bool want_gates = wanted(saved[3]);
    const bool want_initial_state = wanted(saved[4]);
    static const auto op =
        operator_of<BackwardOp>("ringweave::linear_attention_backward");
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [dq, dk, dv, dgates, dinitial] = std::apply(
        [&](const auto&... each) {
          return op.call(if_defined(gradients[0]), if_defined(gradients[1]),
                         saved[0], saved[1], saved[2], if_defined(saved[3]),
                         if_defined(saved[4]), saved[5], saved[6], saved[7],
                         if_defined(saved[8]), each..., want_gates,
                         want_initial_state);
        },
        constants);
    return {dq,
            dk,
            dv,
            want_gates ? dgates : at::Tensor(),
            want_initial_state ? dinitial : at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }
};

/// A compiled graph says itself whether there is a backward.
Forward forward_with_gradient(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const MaybeTensor& gates, const MaybeTensor& initial_state,
    const MaybeTensor& documents, const std::string& group,
    const std::string& layout, c10::SymInt tokens, std::int64_t ranks,
    const std::string& mask, MaybeSymInt left, MaybeSymInt right, double scale,
    const std::string& exchange, const MaybeString& plan, bool final_state,
    bool backward) {
  const Constants constants = {group, layout, tokens,   ranks, mask,       left,
                               right, scale,  exchange, plan,  final_state};
  if (!at::GradMode::is_enabled() ||
      !(q.requires_grad() || k.requires_grad() || v.requires_grad() ||
        requires_grad(gates) || requires_grad(initial_state))) {
    return call_forward(q, k, v, gates, initial_state, documents, constants,
                        backward);
  }
  const variable_list results = LinearAttention::apply(
      q, k, v, gates, initial_state, documents, constants);
  return {results[0], results[1], results[2], results[3], results[4]};
}

#define RINGWEAVE_LINEAR_ATTENTION_CONSTANTS                             \
  "Tensor? documents, str group, str layout, SymInt tokens, int ranks, " \
  "str mask, SymInt? left, SymInt? right, float scale, str exchange, "   \
  "str? plan, bool final_state"

TORCH_LIBRARY_FRAGMENT(ringweave, library) {
  library.def(
      "linear_attention_forward(Tensor q, Tensor k, Tensor v, Tensor? gates, "
      "Tensor? initial_state, " RINGWEAVE_LINEAR_ATTENTION_CONSTANTS
      ", bool backward=False) -> (Tensor out, Tensor final_state, "
      "Tensor states, Tensor decays, Tensor call)");
  library.def(
      "linear_attention_backward(Tensor? grad_out, Tensor? grad_final_state, "
      "Tensor q, Tensor k, Tensor v, Tensor? gates, Tensor? initial_state, "
      "Tensor states, Tensor decays, Tensor "
      "call, " RINGWEAVE_LINEAR_ATTENTION_CONSTANTS
      ", bool want_gates, bool want_initial_state) -> (Tensor dq, Tensor dk, "
      "Tensor dv, Tensor dgates, Tensor dinitial_state)");
}

RINGWEAVE_IMPLEMENT("linear_attention")

}  // namespace
}  // namespace ringweave::python::linear_attention_op
