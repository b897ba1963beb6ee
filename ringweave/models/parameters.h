// The weights of a model: an ordered list of named tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include "ringweave/base/element_type.h"

namespace ringweave::models {

/// `name` is Hugging Face's for Llama, such as
/// "model.layers.0.self_attn.q_proj.weight". `value` is a leaf that requires a
/// gradient.
struct Parameter {
  std::string name;
  at::Tensor value;
};

/// What tensors have without a seed.
enum class Unseeded {
  shapes,  ///< shapes and types, and no memory
  memory   ///< memory, whose content somebody will set
};

/// Draws initial weights, always in fp64 and one after the other from one
/// generator: every rank and every compute type gets the same numbers. They are
/// kept in the accumulate type of `compute`.
class ParameterMaker {
 public:
  /// Without a seed nothing is drawn.
  ParameterMaker(std::optional<std::int64_t> seed, ElementType compute,
                 Unseeded unseeded = Unseeded::shapes);

  at::Tensor normal(const std::string& name, at::IntArrayRef shape,
                    double standard_deviation);
  /// What `map` makes of numbers that are drawn evenly from [0, 1).
  at::Tensor uniform(const std::string& name, at::IntArrayRef shape,
                     const std::function<at::Tensor(const at::Tensor&)>& map);
  at::Tensor filled(const std::string& name, at::IntArrayRef shape,
                    double value);

  const std::vector<Parameter>& parameters() const { return parameters_; }

 private:
  at::Tensor add(const std::string& name, at::IntArrayRef shape,
                 const std::function<at::Tensor()>& draw);

  at::Generator generator_;  ///< undefined without a seed
  at::ScalarType type_;
  at::Device device_;  ///< without a seed
  std::vector<Parameter> parameters_;
};

/// x · weightᵀ with the fp32 master weight cast to x's type.
at::Tensor project(const at::Tensor& x, const at::Tensor& weight);

}  // namespace ringweave::models
