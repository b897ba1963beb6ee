#include "ringweave/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include <ATen/ATen.h>

#include "ringweave/train/flat.h"

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

std::int64_t count(const std::vector<models::Parameter>& parameters) {
  std::int64_t total = 0;
  for (const auto& parameter : parameters) total += parameter.value.numel();
  return total;
}

std::vector<Slice> slices(const std::vector<models::Parameter>& parameters,
                          const Range& piece) {
  std::vector<Slice> all;
  std::int64_t begin = 0;
  for (const auto& parameter : parameters) {
    const std::int64_t end = begin + parameter.value.numel();
    const Range mine = clipped({begin, end}, piece);
    if (!mine.empty()) all.push_back({&parameter, mine, moved(mine, -begin)});
    begin = end;
  }
  return all;
}

namespace {

at::Tensor part(const at::Tensor& flat, const Range& range) {
  return flat.narrow(0, range.begin, range.size());
}

double norm_of(const at::Tensor& flat) {
  return at::linalg_vector_norm(flat, 2, std::nullopt, false, at::kDouble)
      .item<double>();
}

}  // namespace

Gradients::Gradients(const std::vector<models::Parameter>& parameters) {
  flat_ = at::zeros({count(parameters)}, parameters.at(0).value.scalar_type());
  std::int64_t at = 0;
  for (const auto& parameter : parameters) {
    const at::Tensor& value = parameter.value;
    value.mutable_grad() =
        flat_.narrow(0, at, value.numel()).view(value.sizes());
    at += value.numel();
  }
}

void Gradients::zero() { flat_.zero_(); }

double Gradients::norm() const { return norm_of(flat_); }

double Gradients::norm(const Range& piece,
                       comm::Communicator& communicator) const {
  const double mine = norm_of(part(flat_, piece));
  std::vector<double> squares(static_cast<std::size_t>(communicator.size()));
  squares[communicator.rank()] = mine * mine;
  communicator.all_reduce_sum(squares);
  double sum = 0;
  for (const double square : squares) sum += square;
  return std::sqrt(sum);
}

void Gradients::clip(double norm, double limit, const Range& piece) {
  if (limit > 0 && norm > limit) part(flat_, piece).mul_(limit / norm);
}

at::Tensor flatten(const std::vector<models::Parameter>& parameters) {
  const at::Tensor flat =
      at::empty({count(parameters)}, parameters.at(0).value.scalar_type());
  std::int64_t at = 0;
  for (const auto& parameter : parameters) {
    at::Tensor value = parameter.value;
    const at::Tensor view =
        flat.narrow(0, at, value.numel()).view(value.sizes());
    view.copy_(value.detach());
    value.set_data(view);
    at += value.numel();
  }
  return flat;
}

void all_gather_pieces(const at::Tensor& flat,
                       comm::Communicator& communicator) {
  with_span(flat,
            [&](auto numbers) { communicator.all_gather_pieces(numbers); });
}

AdamW::AdamW(const std::vector<models::Parameter>& parameters,
             const Gradients& gradients, const OptimizerConfig& config,
             const Range& piece)
    : config_(config),
      piece_(piece),
      means_(at::zeros({piece.size()}, gradients.flat().options())),
      squares_(at::zeros_like(means_)),
      groups_(2) {
  groups_[0].weight_decay = config.weight_decay;
  for (const Slice& slice : slices(parameters, piece)) {
    const at::Tensor value = slice.parameter->value.detach();
    const Range own = moved(slice.range, -piece.begin);
    Group& group = groups_[value.dim() >= 2 ? 0 : 1];
    group.values.push_back(part(value.view(-1), slice.within));
    group.gradients.push_back(part(gradients.flat(), slice.range));
    group.means.push_back(part(means_, own));
    group.squares.push_back(part(squares_, own));
    group.steps.push_back(at::zeros({}, at::kFloat));
  }
}

void AdamW::set_steps(std::int64_t steps) {
  for (Group& group : groups_) {
    for (at::Tensor& count : group.steps) count.fill_(steps);
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
