// Sequence-parallel linear attention with diagonal decay, forward and backward.
//
// Per head a state S (key_dim × value_dim): S_t = A_t S_{t-1} + k_t v_tᵀ,
// o_t = scale · S_tᵀ q_t, where A_t = diag(exp(g_t)) (docs/algorithms.md).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/schedule/decay.h"
#include "ringweave/schedule/exchange/state_exchange.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"

namespace ringweave::linear_attention {

using schedule::Decay;

/// What the passes are called in errors and in comm::Traffic.
inline constexpr const char* kForwardPass = "linear attention forward";
inline constexpr const char* kBackwardPass = "linear attention backward";

struct LinearSpec {
  schedule::StateExchangePtr exchange;
  schedule::Layout layout;  ///< contiguous runs; striped is an InvalidArgument
  schedule::Mask mask =
      schedule::Mask::causal();  ///< full: only with Decay::none.
                                 ///< Documents reset the state, and keep
                                 ///< NaN and inf to themselves. A window is
                                 ///< an InvalidArgument.
};

struct LinearPlan;  // one rank's part; immutable, shared by all layers

/// Throws InvalidArgument for what can't be honoured, and as
/// StateExchange::strands().
std::shared_ptr<const LinearPlan> make_linear_plan(const LinearSpec& spec,
                                                   Rank rank);

struct LinearOptions {
  double scale = 1.0;        ///< finite
  bool final_state = false;  ///< whether to return it (on all ranks)
  /// Whether there will be a backward: the same on all ranks.
  /// linear_attention() finds out itself.
  bool backward = false;
  /// Kept for as long as the autograd graph: the communicator's, say.
  std::shared_ptr<void> owner = {};
};

struct LinearResult {
  /// (batch, tokens of this rank, the larger of query and state heads,
  /// value_dim), v's type.
  at::Tensor out;
  /// (batch, state heads, key_dim, value_dim), fp32 or fp64; undefined unless
  /// asked for; equal on all ranks.
  at::Tensor final_state;
};

/// q, k: (batch, tokens of this rank, heads, key_dim); v: (batch, tokens,
/// heads, value_dim); of one type out of fp64, fp32, bf16, fp16. All arithmetic
/// is in fp32 (fp64 for fp64), and each output is rounded once.
///
/// gates: log decay g <= 0, fp32 (fp64 for fp64): undefined for none, (heads)
/// for constant, (batch, tokens, heads) for per_head, (batch, tokens, heads,
/// key_dim) for per_key. -inf resets, exactly, and gets gradient 0. A gate
/// above 0 is an InvalidArgument, but is not seen beside a NaN.
/// Heads: there are as many states as the least common multiple of the heads of
/// k, v and gates. State head s is that of head s / (state heads / heads) of
/// each. q has a multiple, and then consecutive query heads share a state, or a
/// divisor, and then each reads consecutive states. Nothing is expanded, but
/// block by block in the cache.
/// initial_state: undefined (zero) or (batch, state heads, key_dim, value_dim),
/// fp32 (fp64 for fp64), the same on all ranks. The first document continues
/// from it; the final state is that of the last one. Each rank's gradient of
/// it, and of a constant decay, is its part of a sum over ranks; likewise each
/// rank's gradient of final_state is taken as its part of a sum.
///
/// Every rank must call it, and its backward, in the same order, ranks without
/// tokens too. Blocks while states travel, as the plan's exchange has it
/// (schedule/exchange/): a rank sends states of its segments, or of what it
/// composed, and with some exchanges the decays of per_head and per_key gates,
/// to the ranks that need them. A requested final state adds an all-reduce of
/// its gradient.
/// Gradients flow to q, k, v, gates and initial_state; backward may be called
/// as often as one likes if the graph is retained. Throws InvalidArgument for a
/// backward with create_graph, and for shapes, types, layouts and masks that
/// can't be honoured. Throws CommError at a time-out, and as
/// Communicator::call(). The communicator must outlive the autograd graph.
LinearResult linear_attention(const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, Decay decay,
                              const at::Tensor& gates,
                              const at::Tensor& initial_state,
                              std::shared_ptr<const LinearPlan> plan,
                              comm::Communicator& communicator,
                              const LinearOptions& options = {});

/// What goes into a call; gates and initial_state may be undefined.
struct LinearInputs {
  at::Tensor q, k, v;
  Decay decay = Decay::none;
  at::Tensor gates, initial_state;
};

/// What a forward pass gives, and what its backward wants of it.
struct LinearForward {
  at::Tensor out = {};          ///< as in LinearResult; contiguous, as all here
  at::Tensor final_state = {};  ///< the same
  /// Some of each of the rank's own segments, in position order, in the states'
  /// type: (count, batch, state heads, key_dim, value_dim); without a causal
  /// mask one, (batch, …).
  std::vector<at::Tensor> states = {};
  /// The logs of all segments' decays, for per_head and per_key gates:
  /// (segments, …), each broadcastable to states; else undefined.
  at::Tensor decays = {};
  std::int64_t call = 0;  ///< its number among the communicator's calls
};

/// Of the inputs' shapes and types. gates: undefined unless wanted.
struct LinearGradients {
  at::Tensor q, k, v, gates, initial_state;
};

/// The passes without autograd, for a caller that has its own: each is one of
/// the communicator's calls, in the order that linear_attention() wants. Of the
/// options, those of forward and of backward must be the same.
LinearForward linear_attention_forward(
    const LinearInputs& inputs, const std::shared_ptr<const LinearPlan>& plan,
    comm::Communicator& communicator, const LinearOptions& options = {});

/// Gradients of the out and, if it was asked for, of the final state;
/// undefined: 0. Reads states and decays of `forward`, which may have more
/// rows, and writes nothing of it.
LinearGradients linear_attention_backward(
    const at::Tensor& grad_out, const at::Tensor& grad_final_state,
    const LinearInputs& inputs, const LinearForward& forward, bool want_gates,
    const std::shared_ptr<const LinearPlan>& plan,
    comm::Communicator& communicator, const LinearOptions& options = {});

/// LinearForward::states as one tensor, (room, batch, …), of which the rows
/// that are not used are not written; and back. Room for n segments of t tokens
/// in all is n + t / kTokensPerState, rounded down.
inline constexpr std::int64_t kTokensPerState = 2048;
at::Tensor join_states(const std::vector<at::Tensor>& states, std::int64_t room,
                       const LinearInputs& inputs, const LinearPlan& plan);
std::vector<at::Tensor> split_states(const at::Tensor& joined,
                                     const LinearPlan& plan);

/// Shape of the states of linear_attention() with these tensors: (batch, state
/// heads, key_dim, value_dim).
std::vector<std::int64_t> state_shape(const at::Tensor& q, const at::Tensor& k,
                                      const at::Tensor& v, Decay decay,
                                      const at::Tensor& gates);

/// Bytes that one call on these tensors, without a final state, sends from the
/// plan's rank to each other rank it sends to; `backward`: with its backward.
std::map<Rank, std::int64_t> planned_bytes(const LinearPlan& plan, Decay decay,
                                           const at::Tensor& q,
                                           const at::Tensor& k,
                                           const at::Tensor& v,
                                           const at::Tensor& gates,
                                           bool backward);

}  // namespace ringweave::linear_attention
