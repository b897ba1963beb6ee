// One rank's forward and backward pass, as the executor's workers.
#pragma once

#include <memory>
#include <optional>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/attention.h"
#include "ringweave/attention/kernel.h"
#include "ringweave/attention/packing.h"
#include "ringweave/attention/prepared.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/comm/executor.h"

namespace ringweave::attention {

/// What both passes know.
struct PassInput {
  std::shared_ptr<const AttentionPlan> plan;
  at::Tensor q;  ///< (batch, tokens, heads, head_dim), last stride 1
  KvPair kv;     ///< (batch, tokens, kv_heads, head_dim), last stride 1
  double scale;
  /// The current one of this thread, behind which the inputs are there.
  device::Stream stream = {};

  KvShape kv_shape() const {
    return {kv.k.size(0), kv.k.size(2), kv.k.size(3)};
  }
  at::ScalarType type() const { return q.scalar_type(); }
  TileKind kind() const { return {q.device(), type(), q.size(3)}; }
};

/// The memory of one pass: scratch of the communicator, and what forward keeps
/// for backward.
class PassMemory {
 public:
  /// `grad_type`: in which gradients travel. `kept`: undefined in forward,
  /// which makes it, with room for `room` units if these are more than it
  /// keeps.
  PassMemory(const schedule::Program& program, const PassInput& input,
             at::ScalarType grad_type, at::Tensor kept,
             comm::Communicator& communicator, std::int64_t room = 0);

  /// In the wire layout; of kv_grad, packed ones are of the accumulate type.
  const at::Tensor& wire(schedule::Payload payload,
                         schedule::Memory memory) const;
  const comm::ProgramMemory& buffers() const { return buffers_; }
  const at::Tensor& kept() const { return kept_; }
  /// Of slots and of what is kept, as they were taken.
  std::int64_t buffer_bytes() const { return buffer_bytes_; }

 private:
  at::Tensor packed_keys_, scratch_keys_, kept_;
  at::Tensor packed_gradients_, scratch_gradients_;
  comm::ProgramMemory buffers_;
  std::int64_t buffer_bytes_ = 0;
};

/// The keys and values of a region, in a type.
KvPair region_keys(const PassInput& input, const PassMemory& memory,
                   const schedule::Program::Region& region,
                   at::ScalarType type);

/// `q`: of all the rank's queries.
Tile make_tile(const at::Tensor& q, const KvPair& keys,
               const PreparedCall& call, double scale);

class ForwardPass final : public comm::Worker {
 public:
  /// `room`: units that kept() has room for, if more than the program keeps.
  ForwardPass(PassInput input, comm::Communicator& communicator,
              std::int64_t room = 0);

  /// Every rank calls it.
  void run();
  void arrived(int) override {}
  void compute(int step) override;

  const Partial& result() const { return result_; }
  /// What backward wants back.
  const at::Tensor& kept() const { return memory_.kept(); }
  std::int64_t buffer_bytes() const { return memory_.buffer_bytes(); }

 private:
  void compute(const PreparedRegion& region);
  Partial rows(const Range& rows) const;
  void make_result();

  PassInput input_;
  const schedule::Program& program_;
  comm::Communicator& communicator_;
  std::shared_ptr<const PreparedSteps> steps_;
  PassMemory memory_;
  at::Tensor q_;  // in the tiles' type
  at::ScalarType sum_type_;
  Partial result_;
};

class BackwardPass final : public comm::Worker {
 public:
  /// `grad_out`, `out`: (batch, tokens, heads, head_dim); `lse`: (batch, heads,
  /// tokens). `kept`: of the forward pass; only read. `grad_payload`: the type
  /// in which gradients travel.
  BackwardPass(PassInput input, const at::Tensor& grad_out,
               const at::Tensor& out, at::Tensor lse, at::Tensor kept,
               at::ScalarType grad_payload, comm::Communicator& communicator);

  /// Every rank calls it.
  void run();
  void arrived(int step) override;
  void compute(int step) override;

  /// Of the queries, in the accumulate type.
  at::Tensor grad_q() { return grad_q({0, q_.size(1)}); }
  /// Of the rank's own keys and values, in their type.
  KvPair grad_kv();
  std::int64_t buffer_bytes() const { return memory_.buffer_bytes(); }

 private:
  void compute(const PreparedRegion& region);
  at::Tensor grad_q(const Range& rows);
  void clear_queries(const Range& rows);
  void add_to_queries(const PreparedCall& call, const at::Tensor& part);
  void add_to_keys(const schedule::Program::Region& region,
                   const PreparedCall& call, const TileGradients& gradients);
  void clear_gradients(const schedule::Program::Region& region,
                       const Range& keys);
  KvPair own_gradients(const schedule::Run& tokens);

  PassInput input_;
  const schedule::Program& program_;
  comm::Communicator& communicator_;
  std::shared_ptr<const PreparedSteps> steps_;
  PassMemory memory_;
  // In the tiles' type, but lse in the accumulate type.
  at::Tensor q_, grad_out_, out_, lse_;
  at::ScalarType sum_type_;  // the accumulate type, of what follows
  at::Tensor grad_q_;
  KvPair grad_own_;  // if they are not packed
};

}  // namespace ringweave::attention
