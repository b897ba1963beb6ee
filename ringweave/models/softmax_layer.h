// A softmax attention layer with RoPE and grouped queries.
#pragma once

#include "ringweave/models/mixer.h"

namespace ringweave::models {

class SoftmaxLayer final : public Mixer {
 public:
  SoftmaxLayer(const ModelConfig& config, std::int64_t layer,
               const std::string& prefix, ParameterMaker& maker);
  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override;

 private:
  std::int64_t head_dim_;
  std::int64_t sliding_window_;  ///< ModelConfig::sliding_window()
  Projections weights_;
};

}  // namespace ringweave::models
