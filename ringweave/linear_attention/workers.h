// The exchange's workers: what is computed while messages are under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/comm/executor.h"
#include "ringweave/linear_attention/exchange.h"
#include "ringweave/linear_attention/exchange_memory.h"

namespace ringweave::linear_attention {

/// For summaries: runs the exchange's local work in the steps that still post
/// something. What arrives is left where it is.
class GatherWorker final : public comm::Worker {
 public:
  /// Packs own summaries. All arguments must outlive it.
  GatherWorker(const LinearPlan& plan, const Exchange& exchange,
               const schedule::ExchangeProgram& program,
               const ExchangeMemory& memory);

  void arrived(int) override {}
  void compute(int step) override;

 private:
  const Exchange& exchange_;
  int steps_ = 1;
  std::size_t done_ = 0;
};

/// The decays of an exchange's segments as factors, in fp64.
class Decays {
 public:
  /// As they are now.
  explicit Decays(const Exchange& exchange)
      : factors_(exchange.decays.defined()
                     ? exchange.decays.to(at::kDouble).exp()
                     : at::Tensor()) {}
  /// Of one segment, broadcastable to states; undefined: 1.
  at::Tensor of(int place) const {
    return factors_.defined() ? factors_.select(0, place) : at::Tensor();
  }

 private:
  at::Tensor factors_;
};

/// For composed states: composes each own segment's state as soon as the one
/// before it is there, and passes it on. As this rank may have to wait before
/// it posts, local work comes first.
class ComposingWorker final : public comm::Worker {
 public:
  /// Composes what needs no message. All arguments must outlive it; fills in
  /// `result` while it runs.
  ComposingWorker(const LinearPlan& plan, const Exchange& exchange,
                  const schedule::ExchangeProgram& program,
                  const ExchangeMemory& memory, Exchanged& result);

  void arrived(int step) override;
  void compute(int step) override;

 private:
  void compose_from(std::size_t step, at::Tensor state);
  std::size_t step_of(const schedule::BlockId& block) const;
  at::Tensor packed(int place) const;

  const LinearPlan& plan_;
  const Exchange& exchange_;
  const schedule::ExchangeProgram& program_;
  const ExchangeMemory& memory_;
  Exchanged& result_;
  const Decays decays_;
  std::vector<int> order_;  // places of segments, as they follow
};

/// The places of the segments in the order in which states pass them.
std::vector<int> scan_order(const LinearPlan& plan, schedule::Pass pass);

/// What of a state counts beyond a segment: undefined if a document starts in
/// the segment, so that the state is replaced and not multiplied by 0.
at::Tensor carried(const LinearPlan::Piece& segment, const at::Tensor& state);

/// `sum` = decay ⊙ state + update, the state after a segment, rounded once.
/// Undefined: state 0, decay 1. `sum` may be the state.
void compose(at::Tensor sum, const at::Tensor& state, const at::Tensor& decay,
             const at::Tensor& update);

}  // namespace ringweave::linear_attention
