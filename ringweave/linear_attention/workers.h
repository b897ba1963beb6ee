// The exchange's workers: message buffers, and what runs meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/executor.h"
#include "ringweave/linear_attention/exchange.h"

namespace ringweave::linear_attention {

/// Runs the exchange's local work in the steps that still post something.
class OverlappingWorker : public comm::Worker {
 public:
  OverlappingWorker(const Exchange& exchange, const schedule::Program& program);
  void compute(int step, std::span<const schedule::Tile> tiles) override;

 private:
  const Exchange& exchange_;
  int steps_;
  std::size_t done_ = 0;
};

/// Transport all_gather. Own blocks lie packed strand by strand; what arrives
/// stays in its slot.
class GatherWorker final : public OverlappingWorker {
 public:
  /// All arguments must outlive it.
  GatherWorker(const LinearPlan& plan, const Exchange& exchange,
               SummarySize size, const schedule::Schedule& schedule,
               const schedule::Program& program);

  comm::Buffer outgoing(const schedule::Message& message) override;
  comm::Buffer incoming(const schedule::Message& message) override;
  void arrived(const schedule::Message& message) override;

  /// What arrived of a part of an owner, flat: all of it if this rank needs it;
  /// of others perhaps some strands, to be passed on; undefined if nothing.
  at::Tensor part(Rank owner, int part) const;

 private:
  at::Tensor pack(const Exchange& exchange, SummarySize size, int strand) const;

  const LinearPlan& plan_;
  const schedule::Schedule& schedule_;
  at::TensorOptions options_;
  std::vector<at::Tensor> own_;  // by strand
  std::map<int, at::Tensor> slots_;
  std::map<schedule::BlockId, at::Tensor> received_;
};

/// Transport chain: composes each own segment's state as soon as the one before
/// it is there, and passes it on.
class ChainWorker final : public OverlappingWorker {
 public:
  /// Composes what needs no message. All arguments must outlive it; fills in
  /// `result` while it runs.
  ChainWorker(const LinearPlan& plan, const Exchange& exchange,
              const schedule::Program& program, Exchanged& result);

  comm::Buffer outgoing(const schedule::Message& message) override;
  comm::Buffer incoming(const schedule::Message& message) override;
  void arrived(const schedule::Message& message) override;

 private:
  void compose_from(std::size_t step, at::Tensor state);
  std::size_t step_of(const schedule::BlockId& block) const;

  const LinearPlan& plan_;
  const Exchange& exchange_;
  Exchanged& result_;
  std::vector<int> order_;  // places of segments, as they follow
  // One state each, so a message's offset in a packed block does not matter.
  std::vector<at::Tensor> outgoing_;    // by own part
  std::map<int, at::Tensor> incoming_;  // by slot
};

/// The places of the segments in the order in which states pass them.
std::vector<int> scan_order(const LinearPlan& plan, schedule::Pass pass);

/// Elements of a state or a decay; 0 for no shape at all.
std::int64_t element_count(const std::vector<std::int64_t>& shape);

/// The state after a segment: decay ⊙ state + update, in memory of its own.
at::Tensor compose(const at::Tensor& state, const at::Tensor& decay,
                   const at::Tensor& update);

}  // namespace ringweave::linear_attention
