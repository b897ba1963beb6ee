// What the files of operators have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/SymInt.h>
#include <torch/library.h>

namespace ringweave::python {

using MaybeTensor = std::optional<at::Tensor>;
using MaybeSymInt = std::optional<c10::SymInt>;

/// The operator of that name, whose kernel has the type Op.
template <typename Op>
auto operator_of(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Op>();
}

/// In place of a result that was not asked for.
inline at::Tensor nothing(const at::Tensor& like) {
  return at::empty({0}, like.options());
}

/// With so many rows in dimension `dim`: those of x, then zeros.
inline at::Tensor with_room(const at::Tensor& x, std::int64_t dim,
                            std::int64_t room) {
  if (x.size(dim) == room) return x;
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape[static_cast<std::size_t>(dim)] = room;
  at::Tensor result = at::zeros(shape, x.options());
  result.narrow(dim, 0, x.size(dim)).copy_(x);
  return result;
}

/// An undefined tensor is none.
inline MaybeTensor if_defined(const at::Tensor& x) {
  return x.defined() ? MaybeTensor(x) : std::nullopt;
}

inline bool requires_grad(const MaybeTensor& x) {
  return x && x->requires_grad();
}

}  // namespace ringweave::python

// Gives the operators NAME_forward and NAME_backward what the file has under
// these names: kernels, for all devices, as they say themselves that they want
// the cpu; shapes for compilers; and the gradient above the first.
#define RINGWEAVE_IMPLEMENT(name)                                     \
  TORCH_LIBRARY_IMPL(ringweave, CompositeExplicitAutograd, library) { \
    library.impl(name "_forward", forward_kernel);                    \
    library.impl(name "_backward", backward_kernel);                  \
  }                                                                   \
  TORCH_LIBRARY_IMPL(ringweave, Meta, library) {                      \
    library.impl(name "_forward", forward_shapes);                    \
    library.impl(name "_backward", backward_shapes);                  \
  }                                                                   \
  TORCH_LIBRARY_IMPL(ringweave, Autograd, library) {                  \
    library.impl(name "_forward", forward_with_gradient);             \
  }
