#include "ringweave/attention/attention.h"

#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/attention/passes.h"
#include "ringweave/base/error.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"
#include "ringweave/tensor/threads.h"

namespace ringweave::attention {
namespace {

using tensor::shape_text;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What backward needs besides tensors.
struct Call : torch::CustomClassHolder {
  std::shared_ptr<const AttentionPlan> plan;
  comm::Communicator* communicator;
  std::shared_ptr<void> owner;
  std::int64_t number = 0;  ///< of the forward, among the communicator's calls
  // q's sign and the positive scale whose product is the caller's scale:
  // torch's kernel multiplies masked scores, -inf, by the scale.
  double sign;  // -1, 0 or 1
  double scale;
  at::ScalarType grad_payload;

  void set_scale(double value) {
    sign = value > 0 ? 1 : value < 0 ? -1 : 0;
    scale = value == 0 ? 1 : std::abs(value);
  }
  double signed_scale() const { return sign * scale; }
  at::Tensor signed_q(const at::Tensor& q) const {
    return sign == 1 ? q : q * sign;
  }
  PassInput input(const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v) const {
    // The kernels read rows of head_dim elements and don't check the stride.
    const auto rows = [](const at::Tensor& x) {
      return x.stride(-1) == 1 ? x : x.contiguous();
    };
    return {plan, rows(signed_q(q)), {rows(k), rows(v)}, scale};
  }
};

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
          "float64, float32, bfloat16",
          name, c10::toString(x.scalar_type()));
  require(x.device() == q.device(), "[attention] got {} on {}; want {} as q",
          name, x.device().str(), q.device().str());
  require(
      x.device().is_cpu(),
      "[attention] got {} on {}; want cpu: keys travel in the memory of the "
      "host",
      name, x.device().str());
  require(x.size(0) == q.size(0) && x.size(3) == q.size(3),
          "[attention] got {} of shape {}; want the batch {} and head_dim {} "
          "of q",
          name, shape_text(x.sizes()), q.size(0), q.size(3));
}

void check_inputs(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const Call& call) {
  const AttentionPlan& plan = *call.plan;
  const comm::Communicator& group = *call.communicator;
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
  require(std::isfinite(call.signed_scale()),
          "[attention] got scale {}; want a finite number",
          call.signed_scale());
}

/// What of one call all ranks must have equal.
comm::Facts facts_of(const Call& call, const at::Tensor& q,
                     const at::Tensor& k) {
  comm::Facts facts = call.plan->facts;
  const auto add = [&](const char* name, std::int64_t value) {
    facts.emplace_back(name, fmt::format("{}", value));
  };
  add("batch", q.size(0));
  add("heads", q.size(2));
  add("kv_heads", k.size(2));
  add("head_dim", q.size(3));
  facts.emplace_back("type", c10::toString(q.scalar_type()));
  facts.emplace_back("scale", fmt::format("{}", call.signed_scale()));
  return facts;
}

struct AttentionFunction : public torch::autograd::Function<AttentionFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v,
                               const c10::intrusive_ptr<Call>& call) {
    std::optional<ForwardPass> pass;
    // What follows the messages may throw without harm: a checkpoint ends its
    // recomputation so, in save_for_backward().
    call->communicator->call(
        "attention", 0, [&] { check_inputs(q, k, v, *call); },
        [&] { return facts_of(*call, q, k); },
        [&](std::int64_t number) {
          call->number = number;
          pass.emplace(call->input(q, k, v), *call->communicator);
          pass->run();
        });
    const at::Tensor out = pass->result().out.to(q.scalar_type());
    const at::Tensor lse = pass->result().lse;
    // All that is kept is saved, so that it goes when backward has used it.
    context->save_for_backward({q, k, v, out, lse, pass->kept()});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->mark_non_differentiable({lse});
    return {out, lse};
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(
        context->saved_data["call"].toCapsule());
    variable_list saved;
    const auto check = [&] {
      require(!at::GradMode::is_enabled(),
              "[attention] got a backward with create_graph; want one without: "
              "second derivatives are not supported");
      require(call->plan->spec.backward,
              "[attention] got a backward call with a plan made for forward "
              "only; want AttentionSpec::backward");
      // Throws for what was changed in place, or was freed by a backward.
      saved = context->get_saved_variables();
    };
    return call->communicator->call(
        "attention backward", call->number, check, [] { return comm::Facts(); },
        [&](std::int64_t) { return run_backward(*call, saved, gradients[0]); });
  }

 private:
  static variable_list run_backward(const Call& call,
                                    const variable_list& saved,
                                    const at::Tensor& gradient) {
    const PassInput input = call.input(saved[0], saved[1], saved[2]);
    const at::Tensor grad_out =
        gradient.defined() ? gradient.contiguous() : at::zeros_like(saved[3]);
    BackwardPass pass(input, grad_out, saved[3], saved[4], saved[5],
                      call.grad_payload, *call.communicator);
    pass.run();
    const KvPair grad_kv = pass.grad_kv();
    return {call.signed_q(pass.grad_q()).to(saved[0].scalar_type()), grad_kv.k,
            grad_kv.v, at::Tensor()};
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

AttentionResult attention(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v,
                          std::shared_ptr<const AttentionPlan> plan,
                          comm::Communicator& communicator,
                          const AttentionOptions& options) {
  require(plan != nullptr,
          "[attention] got no plan; want one from make_attention_plan");
  auto call = c10::make_intrusive<Call>();
  call->plan = std::move(plan);
  call->communicator = &communicator;
  call->owner = options.owner;
  // Of shapes that are refused: any.
  const double head_dim = q.dim() == 4 ? static_cast<double>(q.size(3)) : 1;
  call->set_scale(options.scale.value_or(1.0 / std::sqrt(head_dim)));
  call->grad_payload = options.grad_payload_in_compute_type
                           ? q.scalar_type()
                           : tensor::accumulate_type(q.scalar_type());
  tensor::take_over_thread_count();
  const variable_list results = AttentionFunction::apply(q, k, v, call);
  return {results[0], results[1]};
}

}  // namespace ringweave::attention
