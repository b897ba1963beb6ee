// One rank's forward and backward pass, as the executor's workers.
#pragma once

#include <map>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/attention.h"
#include "ringweave/attention/packing.h"
#include "ringweave/attention/tile.h"

namespace ringweave::attention {

/// What both passes know.
struct PassInput {
  const AttentionPlan& plan;
  Rank rank;
  at::Tensor q;  ///< (batch, tokens, heads, head_dim), last stride 1
  KvPair kv;     ///< (batch, tokens, kv_heads, head_dim), last stride 1
  double scale;

  KvShape kv_shape() const {
    return {kv.k.size(0), kv.k.size(2), kv.k.size(3)};
  }
};

/// The rank's own block packed for the wire, by strand; strands that it sends
/// to nobody are left out.
std::map<int, at::Tensor> pack_own(const PassInput& input,
                                   const schedule::Schedule& schedule,
                                   const PassWork& work);

class ForwardPass final : public comm::Worker {
 public:
  explicit ForwardPass(PassInput input);

  std::span<const std::byte> outgoing(
      const schedule::Message& message) override;
  std::span<std::byte> incoming(const schedule::Message& message) override;
  void arrived(const schedule::Message&) override {}
  void compute(int step, std::span<const schedule::Tile>) override;

  const Partial& result() const { return result_; }
  /// Slots that backward wants back, by number.
  std::map<int, at::Tensor> retained() const;
  std::int64_t buffer_bytes() const { return slots_.bytes(); }

 private:
  void compute(const TileWork& work);

  PassInput input_;
  std::map<int, at::Tensor> own_;
  Slots slots_;
  Partial result_;
};

class BackwardPass final : public comm::Worker {
 public:
  /// `grad_out`, `out`: (batch, tokens, heads, head_dim); `lse`: (batch, heads,
  /// tokens). `grad_payload`: the type in which gradients travel.
  BackwardPass(PassInput input, at::Tensor grad_out, at::Tensor out,
               at::Tensor lse, const std::map<int, at::Tensor>& retained,
               at::ScalarType grad_payload);

  std::span<const std::byte> outgoing(
      const schedule::Message& message) override;
  std::span<std::byte> incoming(const schedule::Message& message) override;
  void arrived(const schedule::Message& message) override;
  void compute(int step, std::span<const schedule::Tile>) override;

  const at::Tensor& grad_q() const { return grad_q_; }
  const KvPair& grad_kv() const { return grad_own_; }
  std::int64_t buffer_bytes() const {
    return kv_slots_.bytes() + grad_slots_.bytes();
  }

 private:
  void compute(const TileWork& work);

  PassInput input_;
  at::Tensor grad_out_;
  at::Tensor out_;
  at::Tensor lse_;
  std::map<int, at::Tensor> own_;
  Slots kv_slots_;
  Slots grad_slots_;
  at::Tensor grad_q_;
  KvPair grad_own_;
};

}  // namespace ringweave::attention
