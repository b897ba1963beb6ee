// The types that tensors are computed in, without torch.
//
// tensor/scalar_type.h maps them to torch's types.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringweave {

/// Type of activations, keys, values and matrix products.
enum class ElementType { float64, float32, bfloat16, float16 };

/// "float64", "float32", "bfloat16", "float16".
std::string name(ElementType type);
const std::vector<std::string>& element_type_names();
/// Of what a model computes in: all but float16, in which gradients get lost
/// unless the loss is scaled.
const std::vector<std::string>& model_type_names();
/// Throw InvalidArgument, which lists the names, the nearest one first.
ElementType element_type_from_name(const std::string& name);
ElementType model_type_from_name(const std::string& name);

/// Of one number.
std::int64_t element_bytes(ElementType type);

/// float64 for float64, else float32. Parameters, norms, softmax statistics,
/// states, gates, sums over ranks, RoPE tables and the loss have this type.
ElementType accumulate_type(ElementType type);

}  // namespace ringweave
