#include "ringweave/models/parameters.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "ringweave/tensor/scalar_type.h"

namespace ringweave::models {

ParameterMaker::ParameterMaker(std::optional<std::int64_t> seed,
                               ElementType compute, Unseeded unseeded)
    : type_(tensor::scalar_type(accumulate_type(compute))),
      device_(unseeded == Unseeded::memory ? at::kCPU : at::kMeta) {
  if (seed) {
    generator_ =
        at::detail::createCPUGenerator(static_cast<std::uint64_t>(*seed));
  }
}

at::Tensor ParameterMaker::normal(const std::string& name,
                                  at::IntArrayRef shape,
                                  double standard_deviation) {
  return add(name, shape, [&] {
    return at::randn(shape, generator_, at::kDouble).mul_(standard_deviation);
  });
}

at::Tensor ParameterMaker::uniform(
    const std::string& name, at::IntArrayRef shape,
    const std::function<at::Tensor(const at::Tensor&)>& map) {
  return add(name, shape,
             [&] { return map(at::rand(shape, generator_, at::kDouble)); });
}

at::Tensor ParameterMaker::filled(const std::string& name,
                                  at::IntArrayRef shape, double value) {
  return add(name, shape, [&] { return at::full(shape, value, at::kDouble); });
}

at::Tensor ParameterMaker::add(const std::string& name, at::IntArrayRef shape,
                               const std::function<at::Tensor()>& draw) {
  at::Tensor leaf = generator_.defined()
                        ? draw().to(type_)
                        : at::empty(shape, at::device(device_).dtype(type_));
  leaf.requires_grad_(true);
  parameters_.push_back({name, leaf});
  return leaf;
}

at::Tensor project(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x, weight.to(x.scalar_type()));
}

}  // namespace ringweave::models
