#include "ringweave/attention/attention.h"

#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/attention/passes.h"
#include "ringweave/base/error.h"
#include "ringweave/device/torch_accelerator.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/tensor/saved.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"
#include "ringweave/tensor/threads.h"

namespace ringweave::attention {
namespace {

using tensor::shape_text;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// q's sign and the positive scale whose product is the caller's scale:
/// torch's kernel multiplies masked scores, -inf, by the scale.
struct Scale {
  double sign;  // -1, 0 or 1
  double size;

  explicit Scale(double value)
      : sign(value > 0   ? 1
             : value < 0 ? -1
                         : 0),
        size(value == 0 ? 1 : std::abs(value)) {}
  double value() const { return sign * size; }
  at::Tensor times_sign(const at::Tensor& q) const {
    return sign == 1 ? q : q * sign;
  }
};

Scale scale_of(const at::Tensor& q, const AttentionOptions& options) {
  // Of shapes that are refused: any.
  const double head_dim = q.dim() == 4 ? static_cast<double>(q.size(3)) : 1;
  return Scale(options.scale.value_or(1.0 / std::sqrt(head_dim)));
}

at::ScalarType grad_payload_of(const at::Tensor& q,
                               const AttentionOptions& options) {
  return options.grad_payload_in_compute_type
             ? q.scalar_type()
             : tensor::accumulate_type(q.scalar_type());
}

PassInput input_of(const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v,
                   const std::shared_ptr<const AttentionPlan>& plan,
                   const Scale& scale) {
  // The kernels read rows of head_dim elements and don't check the stride.
  const auto rows = [](const at::Tensor& x) {
    return x.stride(-1) == 1 ? x : x.contiguous();
  };
  return {plan,
          rows(scale.times_sign(q)),
          {rows(k), rows(v)},
          scale.size,
          device::current_stream(q)};
}

void check_input(const at::Tensor& x, const char* name, std::int64_t tokens,
                 const at::Tensor& q) {
  require(x.dim() == 4,
          "[attention] got {} of shape {}; want (batch, tokens, heads, "
          "head_dim)",
          name, shape_text(x.sizes()));
  require(x.size(1) == tokens,
          "[attention] got {} of {} tokens; want {}, this rank's share of the "
          "layout",
          name, x.size(1), tokens);
  require(x.scalar_type() == q.scalar_type() &&
              tensor::element_type(x.scalar_type()).has_value(),
          "[attention] got {} of type {}; want q, k and v of one type out of "
          "float64, float32, bfloat16, float16",
          name, c10::toString(x.scalar_type()));
  require(x.device() == q.device(), "[attention] got {} on {}; want {} as q",
          name, x.device().str(), q.device().str());
  require(x.size(0) == q.size(0) && x.size(3) == q.size(3),
          "[attention] got {} of shape {}; want the batch {} and head_dim {} "
          "of q",
          name, shape_text(x.sizes()), q.size(0), q.size(3));
}

void check_inputs(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionPlan& plan, const comm::Communicator& group,
                  const Scale& scale) {
  require(device::computes(q.device()),
          "[attention] got q on {}; want cpu or an accelerator",
          q.device().str());
  require(group.carries(device::from_torch(q.device())),
          "[attention] got q on {}; want cpu: keys of several ranks travel in "
          "the memory of the host, unless the ranks are threads",
          q.device().str());
  require(group.size() == plan.spec.kv_layout.ranks(),
          "[attention] got a plan for {} ranks; want {}, the communicator's",
          plan.spec.kv_layout.ranks(), group.size());
  require(
      group.rank() == plan.rank,
      "[attention] got the plan of rank {} on rank {}; want that of rank {}",
      plan.rank, group.rank(), group.rank());
  check_input(q, "q", plan.spec.q_layout.shard_tokens(plan.rank), q);
  const std::int64_t tokens = plan.spec.kv_layout.shard_tokens(plan.rank);
  check_input(k, "k", tokens, q);
  check_input(v, "v", tokens, q);
  require(k.size(2) == v.size(2) && k.size(2) > 0 && q.size(2) > 0 &&
              q.size(2) % k.size(2) == 0,
          "[attention] got {} heads with {} kv heads in k and {} in v; want a "
          "multiple of one number of kv heads",
          q.size(2), k.size(2), v.size(2));
  require(q.size(0) > 0 && q.size(3) > 0,
          "[attention] got q of shape {}; want a batch and a head_dim of at "
          "least 1",
          shape_text(q.sizes()));
  require(std::isfinite(scale.value()),
          "[attention] got scale {}; want a finite number", scale.value());
}

/// What of one call all ranks must have equal.
comm::Facts facts_of(const AttentionPlan& plan, const at::Tensor& q,
                     const at::Tensor& k, const Scale& scale) {
  comm::Facts facts = plan.facts;
  const auto add = [&](const char* name, std::int64_t value) {
    facts.emplace_back(name, fmt::format("{}", value));
  };
  add("batch", q.size(0));
  add("heads", q.size(2));
  add("kv_heads", k.size(2));
  add("head_dim", q.size(3));
  facts.emplace_back("type", c10::toString(q.scalar_type()));
  facts.emplace_back("scale", fmt::format("{}", scale.value()));
  return facts;
}

void check_plan(const std::shared_ptr<const AttentionPlan>& plan) {
  require(plan != nullptr,
          "[attention] got no plan; want one from make_attention_plan");
}

/// What backward needs besides tensors.
struct Call : torch::CustomClassHolder {
  std::shared_ptr<const AttentionPlan> plan;
  comm::Communicator* communicator;
  AttentionOptions options;
  std::int64_t number = 0;  ///< of the forward, among the communicator's calls

  Call(std::shared_ptr<const AttentionPlan> plan,
       comm::Communicator& communicator, AttentionOptions options)
      : plan(std::move(plan)),
        communicator(&communicator),
        options(std::move(options)) {}
};

struct AttentionFunction : public torch::autograd::Function<AttentionFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v,
                               const c10::intrusive_ptr<Call>& call) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const AttentionForward result = attention_forward(
        q, k, v, call->plan, *call->communicator, call->options);
    call->number = result.call;
    // All that is kept is saved, so that it goes when backward has used it.
    context->save_for_backward(
        {q, k, v, result.out, result.lse, result.retained});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->mark_non_differentiable({result.lse});
    context->set_materialize_grads(false);
    return {result.out, result.lse};
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(
        context->saved_data["call"].toCapsule());
    const variable_list saved = call->communicator->or_refuse(
        "attention backward",
        [&] { return tensor::saved_for_backward(*context, "attention"); });
    const at::AutoDispatchBelowADInplaceOrView guard;
    const AttentionGradients result =
        attention_backward(gradients[0], saved[0], saved[1], saved[2],
                           {saved[3], saved[4], saved[5], call->number},
                           call->plan, *call->communicator, call->options);
    return {result.q, result.k, result.v, at::Tensor()};
  }
};

std::shared_ptr<AttentionPlan> start_plan(const AttentionSpec& spec,
                                          Rank rank) {
  const int ranks = spec.kv_layout.ranks();
  require(rank >= 0 && rank < ranks, "[attention] got rank {}; want 0 … {}",
          rank, ranks - 1);
  auto plan = std::make_shared<AttentionPlan>(spec);
  plan->rank = rank;
  plan->facts = {
      {"layout of queries", comm::abridged(spec.q_layout.to_json().dump())},
      {"layout of keys", comm::abridged(spec.kv_layout.to_json().dump())},
      {"mask", comm::abridged(spec.mask.to_json().dump())},
      {"strategy", comm::abridged(to_json(spec.strategy).dump())},
      {"requires a gradient", spec.backward ? "yes" : "no"}};
  return plan;
}

schedule::AttentionDemand demand_of(const AttentionSpec& spec) {
  return {spec.q_layout, spec.kv_layout, spec.mask};
}

void check_pass(const schedule::Schedule& schedule, schedule::Pass pass) {
  require(schedule.pass == pass,
          "[attention] got a schedule of the {} pass; want the {} pass",
          schedule::name(schedule.pass), schedule::name(pass));
}

}  // namespace

std::shared_ptr<const AttentionPlan> make_attention_plan(
    const AttentionSpec& spec, Rank rank) {
  const schedule::AttentionDemand demand = demand_of(spec);
  const int strands = schedule::strand_count(spec.strategy, demand.ranks());
  auto plan = start_plan(spec, rank);
  plan->forward = schedule::compile(
      schedule::rank_part(spec.strategy, demand, schedule::Pass::forward, rank,
                          spec.backward),
      rank, demand, strands);
  if (spec.backward) {
    plan->backward =
        schedule::compile(schedule::rank_part(spec.strategy, demand,
                                              schedule::Pass::backward, rank),
                          rank, demand, strands, &plan->forward);
  }
  return plan;
}

std::shared_ptr<const AttentionPlan> make_attention_plan(
    const AttentionSpec& spec, const schedule::Schedule& forward,
    const std::optional<schedule::Schedule>& backward, Rank rank) {
  const schedule::AttentionDemand demand = demand_of(spec);
  check_pass(forward, schedule::Pass::forward);
  const int strands = schedule::strand_count(forward);
  schedule::validate(forward, demand, strands);
  auto plan = start_plan(spec, rank);
  plan->forward = schedule::compile(forward, rank, demand, strands);
  plan->spec.backward = backward.has_value();
  if (backward) {
    check_pass(*backward, schedule::Pass::backward);
    schedule::validate(*backward, demand, strands);
    require(backward->retained == forward.retained,
            "[attention] got a backward schedule that finds other keys and "
            "values retained than the forward schedule leaves; want the same");
    plan->backward =
        schedule::compile(*backward, rank, demand, strands, &plan->forward);
  }
  return plan;
}

AttentionForward attention_forward(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::shared_ptr<const AttentionPlan>& plan,
    comm::Communicator& communicator, const AttentionOptions& options) {
  check_plan(plan);
  tensor::take_over_thread_count();
  const Scale scale = scale_of(q, options);
  AttentionForward result;
  std::optional<ForwardPass> pass;
  // What follows the messages may throw without harm: a checkpoint ends its
  // recomputation so, when its caller saves for backward.
  communicator.call(
      "attention", 0,
      [&] { check_inputs(q, k, v, *plan, communicator, scale); },
      [&] { return facts_of(*plan, q, k, scale); },
      [&](std::int64_t number) {
        result.call = number;
        pass.emplace(input_of(q, k, v, plan, scale), communicator,
                     options.retained_room.value_or(0));
        pass->run();
      });
  result.out = pass->result().out.to(q.scalar_type()).contiguous();
  result.lse = pass->result().lse.transpose(1, 2).contiguous().transpose(1, 2);
  result.retained = pass->kept();
  return result;
}

AttentionGradients attention_backward(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k,
    const at::Tensor& v, const AttentionForward& forward,
    const std::shared_ptr<const AttentionPlan>& plan,
    comm::Communicator& communicator, const AttentionOptions& options) {
  check_plan(plan);
  tensor::take_over_thread_count();
  const auto check = [&] {
    require(plan->spec.backward,
            "[attention] got a backward call with a plan made for forward "
            "only; want AttentionSpec::backward");
  };
  return communicator.call(
      "attention backward", forward.call, check, [] { return comm::Facts(); },
      [&](std::int64_t) -> AttentionGradients {
        const Scale scale = scale_of(q, options);
        BackwardPass pass(input_of(q, k, v, plan, scale),
                          grad_out.defined() ? grad_out.contiguous()
                                             : at::zeros_like(forward.out),
                          forward.out, forward.lse, forward.retained,
                          grad_payload_of(q, options), communicator);
        pass.run();
        const KvPair grad_kv = pass.grad_kv();
        return {
            scale.times_sign(pass.grad_q()).to(q.scalar_type()).contiguous(),
            grad_kv.k, grad_kv.v};
      });
}

AttentionResult attention(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v,
                          std::shared_ptr<const AttentionPlan> plan,
                          comm::Communicator& communicator,
                          const AttentionOptions& options) {
  check_plan(plan);
  const variable_list results = AttentionFunction::apply(
      q, k, v,
      c10::make_intrusive<Call>(std::move(plan), communicator, options));
  return {results[0], results[1]};
}

}  // namespace ringweave::attention
