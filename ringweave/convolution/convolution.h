// Causal depthwise convolution with a short kernel over a sequence that is
// split over ranks, forward and backward.
//
// y_t = bias + Σ_{j < width} weight[:, width-1-j] ⊙ x_{t-j}, as a Conv1d of
// `channels` groups whose input is padded by width - 1 on the left.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"

namespace ringweave::convolution {

/// What the passes are called in errors and in comm::Traffic.
inline constexpr const char* kForwardPass = "convolution forward";
inline constexpr const char* kBackwardPass = "convolution backward";

struct ConvolutionSpec {
  schedule::Layout layout;  ///< contiguous runs; striped is an InvalidArgument
  std::int64_t width = 1;   ///< of the kernel: tokens that an output sees
  schedule::Mask mask =
      schedule::Mask::causal();  ///< causal. Nothing crosses the start of a
                                 ///< document, not even NaN. A window is an
                                 ///< InvalidArgument.
};

struct ConvolutionPlan;  // one rank's part; immutable, shared by all layers

/// In time that grows with the segments of all ranks. Throws InvalidArgument
/// for what can't be honoured.
std::shared_ptr<const ConvolutionPlan> make_convolution_plan(
    const ConvolutionSpec& spec, Rank rank);

struct ConvolutionOptions {
  bool final_state = false;  ///< whether to return it (on all ranks)
  /// Whether there will be a backward: the same on all ranks.
  /// causal_convolution() finds out itself.
  bool backward = false;
  /// Kept for as long as the autograd graph: the communicator's, say.
  std::shared_ptr<void> owner = {};
};

struct ConvolutionResult {
  at::Tensor out;  ///< of the shape and type of x
  /// (batch, width - 1, channels) in the type of x: the last inputs, those of
  /// the last document alone, 0 before it. Undefined unless asked for.
  at::Tensor final_state;
};

/// x: (batch, tokens of this rank, channels), fp64, fp32, bf16 or fp16. weight:
/// (channels, width) and bias: (channels) or undefined, in fp32 (fp64 for
/// fp64), the same on all ranks. All sums are in that type, in the same order
/// however the tokens are split, and each output is rounded once.
/// initial_state: undefined (zero) or (batch, width - 1, channels) in the type
/// of x, the same on all ranks: the inputs before the first token, the newest
/// last. The first document continues from it.
///
/// Gradients flow to x, weight, bias and initial_state. A rank's gradient of
/// the last three is its part of a sum over ranks; likewise each rank's
/// gradient of final_state is taken as its part of a sum.
///
/// Every rank must call it, and its backward, in the same order, ranks without
/// tokens too. Blocks. One message each way per ordered pair of ranks of which
/// one has tokens that the other needs: before each of its segments, as far as
/// they are of the segment's document, and at the end of the sequence for the
/// final state. Forward they travel in the type of x, while outputs that need
/// none are computed; backward their gradients, in the type of the weight.
/// Backward may be called as often as one likes if the graph is retained.
/// Throws InvalidArgument for a backward with create_graph, and for shapes and
/// types that can't be honoured. Throws CommError at a time-out, and as
/// Communicator::call(). The communicator must outlive the autograd graph.
ConvolutionResult causal_convolution(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& initial_state,
    std::shared_ptr<const ConvolutionPlan> plan,
    comm::Communicator& communicator, const ConvolutionOptions& options = {});

/// What goes into a call; bias and initial_state may be undefined.
struct ConvolutionInputs {
  at::Tensor x, weight, bias, initial_state;
};

/// What a forward pass gives, and what its backward wants of it.
struct ConvolutionForward {
  at::Tensor out;          ///< as in ConvolutionResult
  at::Tensor final_state;  ///< the same
  /// (batch, rows, channels): what was before this rank's segments. There are
  /// at most width - 1 rows for each of them, and for a final state as many.
  at::Tensor table;
  std::int64_t call = 0;  ///< its number among the communicator's calls
};

/// In the types of what they are of.
struct ConvolutionGradients {
  at::Tensor x, weight, bias, initial_state;
};

/// Which gradients are wanted beside that of x; others stay undefined.
struct WantedGradients {
  bool weight = false;
  bool bias = false;
  bool initial_state = false;
};

/// The passes without autograd, for a caller that has its own: each is one of
/// the communicator's calls, in the order that causal_convolution() wants. Of
/// the options, those of forward and of backward must be the same.
ConvolutionForward convolution_forward(
    const ConvolutionInputs& inputs,
    const std::shared_ptr<const ConvolutionPlan>& plan,
    comm::Communicator& communicator, const ConvolutionOptions& options = {});

/// Gradients of the out and, if it was asked for, of the final state;
/// undefined: 0. Reads table and call of `forward`; the table may have more
/// rows.
ConvolutionGradients convolution_backward(
    const at::Tensor& grad_out, const at::Tensor& grad_final_state,
    const ConvolutionInputs& inputs, const ConvolutionForward& forward,
    const WantedGradients& wanted,
    const std::shared_ptr<const ConvolutionPlan>& plan,
    comm::Communicator& communicator, const ConvolutionOptions& options = {});

/// Bytes that one call on x sends from the plan's rank to each other rank it
/// sends to; `backward`: with its backward.
std::map<Rank, std::int64_t> planned_bytes(const ConvolutionPlan& plan,
                                           const at::Tensor& x,
                                           bool final_state, bool backward);

}  // namespace ringweave::convolution
