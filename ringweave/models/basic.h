// Basic linear attention: softmax's exp(q·k) replaced by φ(q)·φ(k).
#pragma once

#include "ringweave/models/mixer.h"

namespace ringweave::models {

/// With φ = elu1 the output is Σ φ(q)·φ(k) v / Σ φ(q)·φ(k): the denominator
/// travels as one more column of v. With the identity, whose denominator may
/// vanish, each head's output is RMS-normed instead (weight
/// self_attn.o_norm.weight).
class Basic final : public Mixer {
 public:
  Basic(const ModelConfig& config, const std::string& prefix,
        ParameterMaker& maker);
  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override;

 private:
  at::Tensor normalised(const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v, const Context& context) const;
  at::Tensor plain(const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, const Context& context) const;

  ModelConfig config_;
  Projections weights_;
  at::Tensor norm_;  ///< (head_dim); undefined for elu1
};

}  // namespace ringweave::models
