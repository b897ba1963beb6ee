#include "ringweave/models/compute.h"

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"

namespace ringweave::models {

at::ScalarType activation_type(Compute compute) {
  switch (compute) {
    case Compute::float64:
      return at::kDouble;
    case Compute::float32:
      return at::kFloat;
    case Compute::bfloat16:
      return at::kBFloat16;
  }
  throw InternalError("bug in ringweave: a compute type without a value");
}

at::ScalarType precise_type(Compute compute) {
  return compute == Compute::float64 ? at::kDouble : at::kFloat;
}

Compute compute_from_name(const std::string& word) {
  for (const auto compute :
       {Compute::float64, Compute::float32, Compute::bfloat16}) {
    if (name(compute) == word) return compute;
  }
  const auto near = nearest(word, compute_names());
  throw InvalidArgument(
      fmt::format("[compute] got \"{}\"; want {}", word,
                  near ? "\"" + *near + "\"?"
                       : "\"float64\", \"float32\" or \"bfloat16\""));
}

std::string name(Compute compute) {
  switch (compute) {
    case Compute::float64:
      return "float64";
    case Compute::float32:
      return "float32";
    case Compute::bfloat16:
      return "bfloat16";
  }
  throw InternalError("bug in ringweave: a compute type without a name");
}

std::vector<std::string> compute_names() {
  return {"float64", "float32", "bfloat16"};
}

}  // namespace ringweave::models
