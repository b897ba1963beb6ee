#include "ringweave/linear_attention/linear_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/base/error.h"
#include "ringweave/base/range.h"
#include "ringweave/device/torch_accelerator.h"
#include "ringweave/linear_attention/chunk_states.h"
#include "ringweave/linear_attention/inputs.h"
#include "ringweave/linear_attention/linear_plan.h"
#include "ringweave/linear_attention/passes.h"
#include "ringweave/schedule/linear_chunk.h"
#include "ringweave/tensor/saved.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"
#include "ringweave/tensor/threads.h"

namespace ringweave::linear_attention {
namespace {

using tensor::bits_text;
using tensor::shape_text;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check_tensor(const char* name, const at::Tensor& x,
                  const std::vector<std::int64_t>& shape, at::ScalarType type,
                  at::Device device) {
  require(x.defined(), "[linear_attention] got no {}; want shape {}", name,
          shape_text(shape));
  require(x.sizes() == at::IntArrayRef(shape),
          "[linear_attention] got {} of shape {}; want {}", name,
          shape_text(x.sizes()), shape_text(shape));
  require(x.scalar_type() == type,
          "[linear_attention] got {} of type {}; want {}", name,
          at::toString(x.scalar_type()), at::toString(type));
  require(x.device() == device, "[linear_attention] got {} on {}; want {}",
          name, x.device().str(), device.str());
}

/// Any number is allowed; `usual` for what is of another shape and refused for
/// it.
std::int64_t heads_of(const at::Tensor& x, std::int64_t dim,
                      std::int64_t usual) {
  return x.defined() && x.dim() > dim ? x.size(dim) : usual;
}

void check_gates(const Inputs& in) {
  const std::int64_t tokens = in.q.size(1);
  std::vector<std::int64_t> shape;
  switch (in.decay) {
    case Decay::none:
      require(!in.gates.defined(),
              "[linear_attention] got gates with decay none; want none");
      return;
    case Decay::constant:
      shape = {heads_of(in.gates, 0, in.k.size(2))};
      break;
    case Decay::per_head:
      shape = {in.batch(), tokens, heads_of(in.gates, 2, in.k.size(2))};
      break;
    case Decay::per_key:
      shape = {in.batch(), tokens, heads_of(in.gates, 2, in.k.size(2)),
               in.key_dim()};
      break;
  }
  check_tensor("gates", in.gates, shape, in.type, in.q.device());
  // A NaN in a token's gate is a matter of its document, that of a constant
  // one of all tokens. One pass, without a tensor of its own.
  const bool constant = in.decay == Decay::constant;
  const double most = in.gates.numel() > 0 ? in.gates.max().item<double>() : 0;
  require(constant ? most <= 0 : !(most > 0),
          "[linear_attention] got gates of decay {} with a log above 0{}; want "
          "at most 0",
          schedule::name(in.decay), constant ? " or NaN" : "");
}

void check(const Inputs& in, const at::Tensor& initial, const LinearPlan& plan,
           const comm::Communicator& communicator) {
  require(
      plan.ranks() == communicator.size() && plan.rank == communicator.rank(),
      "[linear_attention] got the plan of rank {} of {}; want rank {} of "
      "{}, as the communicator has",
      plan.rank, plan.ranks(), communicator.rank(), communicator.size());
  require(in.q.defined() && in.q.dim() == 4,
          "[linear_attention] got q of {} dimensions; want (batch, tokens, "
          "heads, key_dim)",
          in.q.defined() ? in.q.dim() : 0);
  require(device::computes(in.q.device()),
          "[linear_attention] got q on {}; want cpu or an accelerator",
          in.q.device().str());
  require(communicator.carries(device::from_torch(in.q.device())),
          "[linear_attention] got q on {}; want cpu: states of several ranks "
          "travel in the memory of the host, unless the ranks are threads",
          in.q.device().str());
  const at::ScalarType type = in.q.scalar_type();
  require(tensor::element_type(type).has_value(),
          "[linear_attention] got q of type {}; want float64, float32, "
          "bfloat16 or float16",
          at::toString(type));
  const std::int64_t tokens = plan.spec.layout.shard_tokens(plan.rank);
  check_tensor("q", in.q, {in.batch(), tokens, in.q.size(2), in.key_dim()},
               type, in.q.device());
  check_tensor(
      "k", in.k,
      {in.batch(), tokens, heads_of(in.k, 2, in.q.size(2)), in.key_dim()}, type,
      in.q.device());
  require(in.v.defined() && in.v.dim() == 4,
          "[linear_attention] got v of {} dimensions; want (batch, tokens, "
          "heads, value_dim)",
          in.v.defined() ? in.v.dim() : 0);
  check_tensor(
      "v", in.v,
      {in.batch(), tokens, heads_of(in.v, 2, in.q.size(2)), in.value_dim()},
      type, in.q.device());
  require(std::isfinite(in.scale),
          "[linear_attention] got scale {}; want a finite number", in.scale);
  require(plan.causal() || in.decay == Decay::none,
          "[linear_attention] got a decay with a full mask; want a causal "
          "mask, or no decay");
  check_gates(in);
  const std::vector<std::int64_t> state = {in.batch(), in.state_heads(),
                                           in.key_dim(), in.value_dim()};
  require(*std::min_element(state.begin(), state.end()) > 0 && in.q.size(2) > 0,
          "[linear_attention] got a state of shape {} (batch, heads, key_dim, "
          "value_dim) and {} query heads; want at least 1 of each",
          shape_text(state), in.q.size(2));
  require(in.out_heads() % in.q.size(2) == 0 &&
              in.out_heads() % in.state_heads() == 0,
          "[linear_attention] got {} query heads for {} state heads, which is "
          "the least common multiple of the heads of k, v and gates; want a "
          "multiple or a divisor",
          in.q.size(2), in.state_heads());
  if (initial.defined()) {
    check_tensor("initial_state", initial, state, in.type, in.q.device());
  }
}

Inputs make_inputs(const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, const at::Tensor& gates, Decay decay,
                   double scale, bool causal) {
  const at::ScalarType type =
      q.defined() ? tensor::accumulate_type(q.scalar_type()) : at::kFloat;
  return {q, k, v, gates, decay, scale, causal, type};
}

Inputs make_inputs(const LinearInputs& in, const LinearPlan& plan,
                   const LinearOptions& options) {
  return make_inputs(in.q, in.k, in.v, in.gates, in.decay, options.scale,
                     plan.causal());
}

/// What of one call all ranks must have equal.
comm::Facts facts_of(const LinearPlan& plan, const Inputs& in,
                     const at::Tensor& initial, const LinearOptions& options) {
  comm::Facts facts = plan.facts;
  const auto add = [&](const char* name, std::int64_t value) {
    facts.emplace_back(name, fmt::format("{}", value));
  };
  const auto yes_no = [](bool yes) { return yes ? "yes" : "no"; };
  add("batch", in.batch());
  add("query heads", in.q.size(2));
  add("key heads", in.k.size(2));
  add("value heads", in.v.size(2));
  add("key_dim", in.key_dim());
  add("value_dim", in.value_dim());
  facts.emplace_back("type", at::toString(in.q.scalar_type()));
  facts.emplace_back("decay", schedule::name(in.decay));
  if (in.decay == Decay::constant) {
    facts.emplace_back("gates", bits_text(in.gates));
  } else if (in.gates.defined()) {
    add("heads of gates", in.gates.size(2));
  }
  facts.emplace_back("initial_state",
                     initial.defined() ? bits_text(initial) : "none");
  facts.emplace_back("scale", fmt::format("{}", options.scale));
  facts.emplace_back("final_state", yes_no(options.final_state));
  facts.emplace_back("requires a gradient", yes_no(options.backward));
  return facts;
}

/// What a call keeps for its backward, apart from tensors.
struct Call : torch::CustomClassHolder {
  std::shared_ptr<const LinearPlan> plan;
  comm::Communicator* communicator = nullptr;
  Decay decay = Decay::none;
  LinearOptions options;
  std::int64_t number = 0;  ///< of the forward, among the communicator's calls
  bool has_initial = false;
};

class LinearAttention : public torch::autograd::Function<LinearAttention> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v,
                               const std::optional<at::Tensor>& gates,
                               const std::optional<at::Tensor>& initial,
                               c10::intrusive_ptr<Call> call) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const LinearInputs inputs = {q,
                                 k,
                                 v,
                                 call->decay,
                                 gates.value_or(at::Tensor()),
                                 initial.value_or(at::Tensor())};
    LinearForward result = linear_attention_forward(
        inputs, call->plan, *call->communicator, call->options);
    call->number = result.call;
    // The first segment's state is the initial one: saved, lest a change in
    // place before backward goes unnoticed.
    variable_list kept = {
        q, k, v, inputs.gates, inputs.initial_state, result.decays};
    kept.insert(kept.end(), result.states.begin(), result.states.end());
    context->save_for_backward(std::move(kept));
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    variable_list outputs = {result.out};
    if (call->options.final_state) outputs.push_back(result.final_state);
    return outputs;
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(
        context->saved_data["call"].toCapsule());
    const variable_list saved =
        call->communicator->or_refuse("linear_attention backward", [&] {
          return tensor::saved_for_backward(*context, "linear_attention");
        });
    const at::AutoDispatchBelowADInplaceOrView guard;
    const LinearInputs inputs = {saved[0],    saved[1], saved[2],
                                 call->decay, saved[3], saved[4]};
    const bool has_gates = inputs.gates.defined();
    const LinearGradients result = linear_attention_backward(
        gradients[0], call->options.final_state ? gradients[1] : at::Tensor(),
        inputs,
        {.states = {saved.begin() + kStates, saved.end()},
         .decays = saved[kStates - 1],
         .call = call->number},
        has_gates && needs(context, 3), call->plan, *call->communicator,
        call->options);
    const bool want_initial =
        call->has_initial && needs(context, has_gates ? 4 : 3);
    return {result.q,
            result.k,
            result.v,
            result.gates,
            want_initial ? result.initial_state : at::Tensor(),
            at::Tensor()};
  }

 private:
  /// Where in the saved variables begins what segments keep.
  static constexpr std::ptrdiff_t kStates = 6;

  /// Whether input `edge`, counted among the defined ones, needs a gradient.
  static bool needs(AutogradContext* context, std::size_t edge) {
    return context->needs_input_grad(edge);
  }
};

/// States that the rank's segment `own` keeps. A segment that is shorter than a
/// chunk is one chunk.
std::int64_t rows_of(const LinearPlan& plan, std::size_t own) {
  const SegmentTokens& tokens = plan.segments[plan.own[own]].tokens;
  return plan.causal() ? ceil_div(tokens.local.size(), kTokensPerState) : 1;
}

void check_plan(const std::shared_ptr<const LinearPlan>& plan) {
  require(plan != nullptr,
          "[linear_attention] got no plan; want one from make_linear_plan");
}

std::optional<at::Tensor> if_defined(const at::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

}  // namespace

LinearForward linear_attention_forward(
    const LinearInputs& inputs, const std::shared_ptr<const LinearPlan>& plan,
    comm::Communicator& communicator, const LinearOptions& options) {
  check_plan(plan);
  tensor::take_over_thread_count();
  const Inputs in = make_inputs(inputs, *plan, options);
  // What follows the messages may throw without harm: a checkpoint ends its
  // recomputation so, when its caller saves for backward.
  return communicator.call(
      "linear_attention", 0,
      [&] { check(in, inputs.initial_state, *plan, communicator); },
      [&] { return facts_of(*plan, in, inputs.initial_state, options); },
      [&](std::int64_t number) {
        LinearForward result = run_forward(
            in, inputs.initial_state, options.final_state, *plan, communicator);
        result.call = number;
        return result;
      });
}

LinearGradients linear_attention_backward(
    const at::Tensor& grad_out, const at::Tensor& grad_final_state,
    const LinearInputs& inputs, const LinearForward& forward, bool want_gates,
    const std::shared_ptr<const LinearPlan>& plan,
    comm::Communicator& communicator, const LinearOptions& options) {
  check_plan(plan);
  tensor::take_over_thread_count();
  return communicator.call(
      "linear_attention backward", forward.call, [] {},
      [] { return comm::Facts(); },
      [&](std::int64_t) {
        const Inputs in = make_inputs(inputs, *plan, options);
        const auto or_zeros = [&](const at::Tensor& gradient,
                                  const std::vector<std::int64_t>& shape,
                                  at::ScalarType type) {
          return gradient.defined()
                     ? gradient
                     : at::zeros(shape, in.q.options().dtype(type));
        };
        return run_backward(
            in, forward,
            or_zeros(grad_out,
                     {in.batch(), in.q.size(1), in.out_heads(), in.value_dim()},
                     in.q.scalar_type()),
            options.final_state
                ? or_zeros(grad_final_state, in.state_shape(), in.type)
                : at::Tensor(),
            want_gates, *plan, communicator);
      });
}

LinearResult linear_attention(const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, Decay decay,
                              const at::Tensor& gates,
                              const at::Tensor& initial_state,
                              std::shared_ptr<const LinearPlan> plan,
                              comm::Communicator& communicator,
                              const LinearOptions& options) {
  check_plan(plan);
  auto call = c10::make_intrusive<Call>();
  call->plan = std::move(plan);
  call->communicator = &communicator;
  call->decay = decay;
  call->options = options;
  call->has_initial = initial_state.defined();
  call->options.backward =
      at::GradMode::is_enabled() &&
      std::ranges::any_of(
          std::array{q, k, v, gates, initial_state},
          [](const at::Tensor& x) { return x.defined() && x.requires_grad(); });
  if (!q.defined() || !k.defined() || !v.defined()) {  // autograd wants them
    check(
        make_inputs(q, k, v, gates, decay, options.scale, call->plan->causal()),
        initial_state, *call->plan, communicator);
  }
  const variable_list outputs = LinearAttention::apply(
      q, k, v, if_defined(gates), if_defined(initial_state), call);
  return {outputs[0], options.final_state ? outputs[1] : at::Tensor()};
}

static_assert(kTokensPerState == kStretch * schedule::kLinearChunk);

at::Tensor join_states(const std::vector<at::Tensor>& states, std::int64_t room,
                       const LinearInputs& inputs, const LinearPlan& plan) {
  const Inputs in = make_inputs(inputs, plan, {});
  std::vector<std::int64_t> shape = in.state_shape();
  shape.insert(shape.begin(), room);
  at::Tensor joined = at::empty(shape, in.state_options());
  std::int64_t row = 0;
  for (std::size_t i = 0; i < states.size(); ++i) {
    const std::int64_t rows = rows_of(plan, i);
    joined.narrow(0, row, rows).copy_(states[i]);
    row += rows;
  }
  joined.narrow(0, row, room - row).zero_();
  return joined;
}

std::vector<at::Tensor> split_states(const at::Tensor& joined,
                                     const LinearPlan& plan) {
  std::vector<at::Tensor> states;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < plan.own.size(); ++i) {
    const std::int64_t rows = rows_of(plan, i);
    states.push_back(plan.causal() ? joined.narrow(0, row, rows)
                                   : joined.select(0, row));
    row += rows;
  }
  return states;
}

std::vector<std::int64_t> state_shape(const at::Tensor& q, const at::Tensor& k,
                                      const at::Tensor& v, Decay decay,
                                      const at::Tensor& gates) {
  return make_inputs(q, k, v, gates, decay, 1, true).state_shape();
}

std::map<Rank, std::int64_t> planned_bytes(const LinearPlan& plan, Decay decay,
                                           const at::Tensor& q,
                                           const at::Tensor& k,
                                           const at::Tensor& v,
                                           const at::Tensor& gates,
                                           bool backward) {
  return planned_bytes(make_inputs(q, k, v, gates, decay, 1, plan.causal()),
                       backward, plan);
}

}  // namespace ringweave::linear_attention
