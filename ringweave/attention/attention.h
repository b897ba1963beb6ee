// Sequence-parallel softmax attention, forward and backward.
//
//   const auto plan = make_attention_plan(
//       {.strategy = strategy, .q_layout = layout, .kv_layout = layout,
//        .mask = Mask::causal()}, communicator.rank());
//   Tensor o = attention(q, k, v, plan, communicator).out;   // autograd works
#pragma once

#include <memory>
#include <optional>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/prepared.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/program/program.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::attention {

/// What the passes are called in errors and in comm::Traffic.
inline constexpr const char* kForwardPass = "attention forward";
inline constexpr const char* kBackwardPass = "attention backward";

/// What fixes an attention's communication, and nothing that differs between
/// layers or batches.
struct AttentionSpec {
  schedule::Strategy strategy;
  schedule::Layout q_layout;
  schedule::Layout kv_layout;
  schedule::Mask mask = schedule::Mask::causal();
  bool backward = true;  ///< false: forward only, nothing is retained
};

/// One rank's part of forward and backward, compiled for layouts and mask.
/// Shared by all layers of a step; threads may share it too.
struct AttentionPlan {
  AttentionSpec spec;
  Rank rank = 0;
  schedule::Program forward = {};
  schedule::Program backward = {};
  PreparedCalls forward_calls = {};
  PreparedCalls backward_calls = {};
  comm::Facts facts = {};  ///< that the plans of all ranks have in common
};

/// Throws NoSolution if the strategy does not exist for the layout's ranks, and
/// InvalidArgument if layouts and mask do not fit together.
std::shared_ptr<const AttentionPlan> make_attention_plan(
    const AttentionSpec& spec, Rank rank);

/// The same with schedules of all ranks that came from elsewhere, such as a
/// file; `spec.strategy` is not used. Throws InvalidArgument unless they are
/// valid for the layouts and the mask (schedule::validate).
std::shared_ptr<const AttentionPlan> make_attention_plan(
    const AttentionSpec& spec, const schedule::Schedule& forward,
    const std::optional<schedule::Schedule>& backward, Rank rank);

struct AttentionOptions {
  std::optional<double> scale = {};  ///< finite; default: 1 / sqrt(head_dim)
  /// Type in which gradients of keys and values travel; default: fp32 (fp64 for
  /// fp64).
  bool grad_payload_in_compute_type = false;
  /// Kept for as long as the autograd graph: the communicator's, say.
  std::shared_ptr<void> owner = {};
  /// Units that AttentionForward::retained has room for; at least those that
  /// the plan retains. Default: as many.
  std::optional<std::int64_t> retained_room = {};
};

struct AttentionResult {
  at::Tensor
      out;  ///< (batch, q tokens of this rank, heads, head_dim), q's type
  at::Tensor lse;  ///< (batch, heads, q tokens), natural log, fp32 or fp64;
                   ///< -inf where a query sees no key; not differentiable
};

/// q: (batch, q tokens of this rank, heads, head_dim), k and v: (batch, kv
/// tokens of this rank, kv_heads, head_dim), where kv_heads divides heads; all
/// of one type out of fp64, fp32, bf16, fp16; any strides.
///
/// Every rank of the communicator must call it, in the same order; so must
/// every rank call backward, as often as it likes if the graph is retained.
/// Blocks while it runs. Gradients flow to q, k and v. Throws InvalidArgument
/// for shapes and types, CommError at a time-out, and as Communicator::call().
/// The communicator must outlive the autograd graph.
AttentionResult attention(const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v,
                          std::shared_ptr<const AttentionPlan> plan,
                          comm::Communicator& communicator,
                          const AttentionOptions& options = {});

/// What a forward pass gives, and what its backward wants of it.
struct AttentionForward {
  at::Tensor out;  ///< as in AttentionResult; contiguous
  at::Tensor lse;  ///< the same; its tokens before its heads in memory
  /// Keys and values: (units, 2, batch, kv_heads, head_dim), in k's type. What
  /// of it is not used is not written.
  at::Tensor retained;
  std::int64_t call = 0;  ///< its number among the communicator's calls
};

struct AttentionGradients {
  at::Tensor q, k, v;  ///< of the inputs' shapes and types; contiguous
};

/// The passes without autograd, for a caller that has its own: each is one of
/// the communicator's calls, in the order that attention() wants. Of the
/// options, those of forward and of backward must be the same.
AttentionForward attention_forward(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::shared_ptr<const AttentionPlan>& plan,
    comm::Communicator& communicator, const AttentionOptions& options = {});

/// `grad_out`: of the out; undefined: 0. Reads `forward` and writes nothing of
/// it.
AttentionGradients attention_backward(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k,
    const at::Tensor& v, const AttentionForward& forward,
    const std::shared_ptr<const AttentionPlan>& plan,
    comm::Communicator& communicator, const AttentionOptions& options = {});

}  // namespace ringweave::attention
