// Softmax attention as a pair of functional operators, and their gradient.
//
//   attention_forward(q, k, v, …) -> (out, lse, retained, call)
//   attention_backward(grad_out, q, k, v, out, lse, retained, call, …)
//     -> (dq, dk, dv)
//
// Nothing is kept outside of these tensors, so that compilers and checkpoints
// see all there is. `call` is arguments.h's record. Without a backward nothing
// is retained.
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
#include "ringweave/planner/plan_file.h"
#include "ringweave/tensor/saved.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::python::attention_op {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Forward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Backward = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using MaybeString = std::optional<std::string>;

/// What a call has besides tensors: group, layout, tokens, ranks, mask, left,
/// right, scale, strategy, plan.
using Constants =
    std::tuple<std::string, std::string, c10::SymInt, std::int64_t, std::string,
               MaybeSymInt, MaybeSymInt, std::optional<double>, std::string,
               MaybeString>;

using ForwardOp = Forward(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v, const MaybeTensor& documents,
                          const std::string& group, const std::string& layout,
                          c10::SymInt tokens, std::int64_t ranks,
                          const std::string& mask, MaybeSymInt left,
                          MaybeSymInt right, std::optional<double> scale,
                          const std::string& strategy, const MaybeString& plan,
                          bool backward);
using BackwardOp = Backward(const at::Tensor& grad_out, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& out, const at::Tensor& lse,
                            const at::Tensor& retained, const at::Tensor& call,
                            const MaybeTensor& documents,
                            const std::string& group, const std::string& layout,
                            c10::SymInt tokens, std::int64_t ranks,
                            const std::string& mask, MaybeSymInt left,
                            MaybeSymInt right, std::optional<double> scale,
                            const std::string& strategy,
                            const MaybeString& plan);

schedule::Strategy planned_strategy(const std::string& path,
                                    const at::Tensor& q, const at::Tensor& k,
                                    const schedule::Layout& layout,
                                    const schedule::Mask& mask, int ranks) {
  const planner::PlanFile file = planner::read_plan_file(path);
  require(file.softmax.has_value(),
          "[attention] got {}, a plan without softmax layers; want one with",
          path);
  check_fits(file, path, q, k, layout, mask, ranks);
  return *file.softmax->strategy;
}

/// What the two passes make of their constants.
struct Prepared {
  Key key;
  std::shared_ptr<const attention::AttentionPlan> plan;
};

Prepared prepare(const at::Tensor& q, const at::Tensor& k,
                 const Placement& placement, const Visibility& visibility,
                 const std::string& strategy, const MaybeString& plan_file,
                 bool backward, GroupState& state) {
  const comm::Communicator& communicator = state.communicator;
  Prepared result;
  result.key.add(placement).add(visibility).add(std::int64_t{backward});
  result.key.add(plan_file, strategy, q, k);
  result.plan = state.attention_plans.get(
      result.key.bytes(), [&]() -> PlanCache<attention::AttentionPlan>::Made {
        const schedule::Layout layout = layout_of(placement);
        const schedule::Mask mask = mask_of(visibility);
        const schedule::Strategy chosen =
            plan_file ? planned_strategy(*plan_file, q, k, layout, mask,
                                         communicator.size())
                      : schedule::strategy_from_name(strategy);
        return {attention::make_attention_plan({.strategy = chosen,
                                                .q_layout = layout,
                                                .kv_layout = layout,
                                                .mask = mask,
                                                .backward = backward},
                                               communicator.rank()),
                !mask.document_offsets().empty()};
      });
  return result;
}

/// Units that are retained, at most: a formula of the number of tokens, the
/// same for the shapes of a compiled graph and for memory. What of it is not
/// used is never touched. `own`: tokens of this rank.
template <typename Int>
Int retained_room(const std::string& layout, const Int& tokens, const Int& own,
                  std::int64_t ranks, const std::string& strategy_name,
                  const MaybeString& plan, bool backward) {
  using schedule::StrategyKind;
  if (!backward || ranks == 1) return Int(0);
  if (plan) return tokens - own;
  schedule::Strategy strategy;
  std::int64_t strands = 0;
  try {
    strategy = schedule::strategy_from_name(strategy_name);
    strands = schedule::strand_count(strategy, static_cast<int>(ranks));
  } catch (const Error&) {
    return Int(0);  // the kernel says why
  }
  switch (strategy.kind) {
    case StrategyKind::direct:
      return Int(0);
    case StrategyKind::ring:
    case StrategyKind::multi_ring:
    case StrategyKind::time_varying_multi_ring:
    case StrategyKind::paths: {
      if (layout.starts_with('{')) return tokens - own;
      // The last block of a walk, on each strand: a strand of each run of a
      // shard, all of them rounded up.
      const std::int64_t runs = run_counts(layout, ranks).largest;
      const Int run = (tokens + (runs * ranks - 1)) / Int(runs * ranks);
      return (run + strands) * runs;
    }
    default:
      return tokens - own;
  }
}

Forward forward_kernel(const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v, const MaybeTensor& documents,
                       const std::string& group, const std::string& layout,
                       std::int64_t tokens, std::int64_t ranks,
                       const std::string& mask,
                       std::optional<std::int64_t> left,
                       std::optional<std::int64_t> right,
                       std::optional<double> scale, const std::string& strategy,
                       const MaybeString& plan, bool backward) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  const Prepared prepared = communicator.or_refuse("attention", [&] {
    return prepare(q, k, {layout, tokens, ranks},
                   {mask, left, right, documents}, strategy, plan, backward,
                   *own->state());
  });
  const std::int64_t room = q.dim() == 4
                                ? retained_room(layout, tokens, q.size(1),
                                                ranks, strategy, plan, backward)
                                : 0;
  const attention::AttentionForward result =
      attention::attention_forward(q, k, v, prepared.plan, communicator,
                                   {.scale = scale, .retained_room = room});
  ensure(result.retained.size(0) == room,
         "attention retains {} units, which have room for {}",
         result.retained.size(0), room);
  return {result.out, result.lse, result.retained,
          call_record(communicator, result.call, prepared.key)};
}

Forward forward_shapes(const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor&, const MaybeTensor&,
                       const std::string&, const std::string& layout,
                       c10::SymInt tokens, std::int64_t ranks,
                       const std::string&, MaybeSymInt, MaybeSymInt,
                       std::optional<double>, const std::string& strategy,
                       const MaybeString& plan, bool backward) {
  const at::Tensor out = at::empty_symint(q.sym_sizes(), q.options());
  const at::Tensor call = at::empty({2}, q.options().dtype(at::kLong));
  if (q.dim() != 4 || k.dim() != 4) {  // refused
    return {out, nothing(q), nothing(q), call};
  }
  const auto lse_type = tensor::accumulate_type(q.scalar_type());
  return {out,
          at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2)},
                           q.options().dtype(lse_type))
              .transpose(1, 2),
          at::empty_symint({retained_room(layout, tokens, q.sym_size(1), ranks,
                                          strategy, plan, backward),
                            2, k.sym_size(0), k.sym_size(2), k.sym_size(3)},
                           k.options()),
          call};
}

Backward backward_kernel(const at::Tensor& grad_out, const at::Tensor& q,
                         const at::Tensor& k, const at::Tensor& v,
                         const at::Tensor& out, const at::Tensor& lse,
                         const at::Tensor& retained, const at::Tensor& call,
                         const MaybeTensor& documents, const std::string& group,
                         const std::string& layout, std::int64_t tokens,
                         std::int64_t ranks, const std::string& mask,
                         std::optional<std::int64_t> left,
                         std::optional<std::int64_t> right,
                         std::optional<double> scale,
                         const std::string& strategy, const MaybeString& plan) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  constexpr const char* kOperation = "attention backward";
  const auto [prepared, number] = communicator.or_refuse(kOperation, [&] {
    Prepared prepared =
        prepare(q, k, {layout, tokens, ranks}, {mask, left, right, documents},
                strategy, plan, /*backward=*/true, *own->state());
    const std::int64_t number = call_number(call, prepared.key, kOperation);
    return std::pair(std::move(prepared), number);
  });
  const attention::AttentionGradients result = attention::attention_backward(
      grad_out, q, k, v, {out, lse, retained, number}, prepared.plan,
      communicator, {.scale = scale});
  return {result.q, result.k, result.v};
}

Backward backward_shapes(const at::Tensor&, const at::Tensor& q,
                         const at::Tensor& k, const at::Tensor& v,
                         const at::Tensor&, const at::Tensor&,
                         const at::Tensor&, const at::Tensor&,
                         const MaybeTensor&, const std::string&,
                         const std::string&, c10::SymInt, std::int64_t,
                         const std::string&, MaybeSymInt, MaybeSymInt,
                         std::optional<double>, const std::string&,
                         const MaybeString&) {
  const auto like = [](const at::Tensor& x) {
    return at::empty_symint(x.sym_sizes(), x.options());
  };
  return {like(q), like(k), like(v)};
}

Forward call_forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, const MaybeTensor& documents,
                     const Constants& constants, bool backward) {
  static const auto op = operator_of<ForwardOp>("ringweave::attention_forward");
  const at::AutoDispatchBelowADInplaceOrView below;
  return std::apply(
      [&](const auto&... each) {
        return op.call(q, k, v, documents, each..., backward);
      },
      constants);
}

struct Attention : public torch::autograd::Function<Attention> {
  static variable_list forward(AutogradContext* context, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v,
                               const MaybeTensor& documents,
                               const Constants& constants) {
    const auto [out, lse, retained, call] =
        call_forward(q, k, v, documents, constants, /*backward=*/true);
    context->save_for_backward(
        {q, k, v, out, lse, retained, call, documents.value_or(at::Tensor())});
    context->saved_data["constants"] = constants;
    context->mark_non_differentiable({lse, retained, call});
    context->set_materialize_grads(false);
    return {out, lse, retained, call};
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto constants = context->saved_data["constants"].to<Constants>();
    const variable_list saved = or_refuse(
        std::get<0>(constants), "attention backward",
        [&] { return tensor::saved_for_backward(*context, "attention"); });
    static const auto op =
        operator_of<BackwardOp>("ringweave::attention_backward");
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [dq, dk, dv] = std::apply(
        [&](const auto&... each) {
          return op.call(gradients[0], saved[0], saved[1], saved[2], saved[3],
                         saved[4], saved[5], saved[6], if_defined(saved[7]),
                         each...);
        },
        constants);
    return {dq, dk, dv, at::Tensor(), at::Tensor()};
  }
};

/// A compiled graph says itself whether there is a backward.
Forward forward_with_gradient(const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const MaybeTensor& documents,
                              const std::string& group,
                              const std::string& layout, c10::SymInt tokens,
                              std::int64_t ranks, const std::string& mask,
                              MaybeSymInt left, MaybeSymInt right,
                              std::optional<double> scale,
                              const std::string& strategy,
                              const MaybeString& plan, bool backward) {
  const Constants constants = {group, layout, tokens, ranks,    mask,
                               left,  right,  scale,  strategy, plan};
  if (!at::GradMode::is_enabled() ||
      !(q.requires_grad() || k.requires_grad() || v.requires_grad())) {
    return call_forward(q, k, v, documents, constants, backward);
  }
  const variable_list results = Attention::apply(q, k, v, documents, constants);
  return {results[0], results[1], results[2], results[3]};
}

#define RINGWEAVE_ATTENTION_CONSTANTS                                    \
  "Tensor? documents, str group, str layout, SymInt tokens, int ranks, " \
  "str mask, SymInt? left, SymInt? right, float? scale, str strategy, "  \
  "str? plan"

TORCH_LIBRARY_FRAGMENT(ringweave, library) {
  library.def(
      "attention_forward(Tensor q, Tensor k, Tensor "
      "v, " RINGWEAVE_ATTENTION_CONSTANTS
      ", bool backward=False) -> (Tensor out, Tensor lse, Tensor retained, "
      "Tensor call)");
  library.def(
      "attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, "
      "Tensor out, Tensor lse, Tensor retained, Tensor "
      "call, " RINGWEAVE_ATTENTION_CONSTANTS
      ") -> (Tensor dq, Tensor dk, Tensor dv)");
}

RINGWEAVE_IMPLEMENT("attention")

}  // namespace
}  // namespace ringweave::python::attention_op
