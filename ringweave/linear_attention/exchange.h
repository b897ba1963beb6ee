// Brings every segment the state that it starts from.
//
// Forward the segments follow one another in position order, backward in
// reverse; S_out = A ⊙ S_in + U, where U is the update of a segment (V in
// backward) and A its decay. Without causality all segments get the sum.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/linear_attention/linear_plan.h"

namespace ringweave::linear_attention {

struct Exchange {
  schedule::Pass pass = schedule::Pass::forward;
  bool end_everywhere = false;      ///< every rank gets the end state
  at::TensorOptions options;        ///< of states
  std::vector<std::int64_t> shape;  ///< of states
  /// Of decays that depend on tokens; empty: all ranks know all of them.
  std::vector<std::int64_t> decay_shape;
  at::Tensor start;                 ///< undefined: zero; the same on all ranks
  std::vector<at::Tensor> updates;  ///< of own segments, in position order
  /// Logs of all segments, in position order: (segments, …), each broadcastable
  /// to states; -inf resets; undefined: 0. If they depend on tokens, only own
  /// ones are there before forward; the program says which others it writes.
  /// Backward reads these and writes none.
  at::Tensor decays;
  /// Runs in this order while messages are under way; if there are none, not
  /// at all.
  std::vector<std::function<void()>> work;
};

struct Exchanged {
  /// Per own segment, in position order: the state that it starts from; without
  /// causality the sum. Undefined: zero.
  std::vector<at::Tensor> states;
  /// The state after the last segment (backward: before the first): defined if
  /// end_everywhere, or on the rank of that segment; without segments `start`.
  at::Tensor end;
};

/// What this rank sends and receives for it. Of the exchange only pass,
/// end_everywhere and the shapes are read. Wants at least two ranks.
std::shared_ptr<const schedule::ExchangeProgram> exchange_program(
    const LinearPlan& plan, const Exchange& exchange);

/// Every rank must call it. Messages are those of exchange_program(). Throws
/// CommError at a time-out.
Exchanged exchange_states(const LinearPlan& plan, const Exchange& exchange,
                          comm::Communicator& communicator);

}  // namespace ringweave::linear_attention
