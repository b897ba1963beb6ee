// The types that a model computes in.
#pragma once

#include <string>
#include <vector>

#include <c10/core/ScalarType.h>

namespace ringweave::models {

/// Type of activations and matrix products. Parameters are kept in fp32 (fp64
/// for float64); so are norms, softmax statistics, states, gates, RoPE tables
/// and the loss.
enum class Compute { float64, float32, bfloat16 };

at::ScalarType activation_type(Compute compute);
/// Of parameters, norms, statistics, states, gates and the loss.
at::ScalarType precise_type(Compute compute);

/// "float64", "float32", "bfloat16"; InvalidArgument names the nearest.
Compute compute_from_name(const std::string& name);
std::string name(Compute compute);
std::vector<std::string> compute_names();

}  // namespace ringweave::models
