#include "ringweave/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include <ATen/ATen.h>

namespace ringweave::train {

double learning_rate(const OptimizerConfig& config, std::int64_t step,
                     std::int64_t steps) {
  if (step < config.warmup_steps) {
    return config.learning_rate * static_cast<double>(step) /
           static_cast<double>(config.warmup_steps);
  }
  const auto length = std::max<std::int64_t>(1, steps - config.warmup_steps);
  const double progress =
      std::min(1.0, static_cast<double>(step - config.warmup_steps) /
                        static_cast<double>(length));
  const double share = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return config.learning_rate *
         (config.min_lr_ratio + (1.0 - config.min_lr_ratio) * share);
}

Gradients::Gradients(const std::vector<models::Parameter>& parameters) {
  std::int64_t total = 0;
  for (const auto& parameter : parameters) total += parameter.value.numel();
  flat_ = at::zeros({total}, parameters.at(0).value.scalar_type());
  std::int64_t at = 0;
  for (const auto& parameter : parameters) {
    const at::Tensor& value = parameter.value;
    views_.push_back(flat_.narrow(0, at, value.numel()).view(value.sizes()));
    value.mutable_grad() = views_.back();
    at += value.numel();
  }
}

void Gradients::zero() { flat_.zero_(); }

void Gradients::all_reduce(comm::Communicator& communicator) {
  const auto count = static_cast<std::size_t>(flat_.numel());
  if (flat_.scalar_type() == at::kDouble) {
    communicator.all_reduce_sum(
        std::span(flat_.mutable_data_ptr<double>(), count));
  } else {
    communicator.all_reduce_sum(
        std::span(flat_.mutable_data_ptr<float>(), count));
  }
}

double Gradients::norm() const {
  return at::linalg_vector_norm(flat_, 2, std::nullopt, false, at::kDouble)
      .item<double>();
}

double Gradients::clip(double limit) {
  const double before = norm();
  if (limit > 0 && before > limit) flat_.mul_(limit / before);
  return before;
}

AdamW::AdamW(const std::vector<models::Parameter>& parameters,
             const Gradients& gradients, const OptimizerConfig& config)
    : config_(config), groups_(2) {
  groups_[0].weight_decay = config.weight_decay;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor value = parameters[i].value.detach();
    Group& group = groups_[value.dim() >= 2 ? 0 : 1];
    group.values.push_back(value);
    group.gradients.push_back(gradients.views()[i]);
    group.means.push_back(at::zeros_like(value));
    group.squares.push_back(at::zeros_like(value));
    group.steps.push_back(at::zeros({}, at::kFloat));
  }
}

void AdamW::step(double learning_rate) {
  for (Group& group : groups_) {
    if (group.values.empty()) continue;
    for (at::Tensor& count : group.steps) count.add_(1);
    at::_fused_adamw_(group.values, group.gradients, group.means, group.squares,
                      {}, group.steps, learning_rate, config_.beta1,
                      config_.beta2, group.weight_decay, config_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

}  // namespace ringweave::train
