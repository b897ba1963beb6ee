// The types of base/element_type.h as torch has them.
#pragma once

#include <optional>

#include <c10/core/ScalarType.h>

#include "ringweave/base/element_type.h"

namespace ringweave::tensor {

at::ScalarType scalar_type(ElementType type);

/// nullopt for a type that nothing here computes in.
std::optional<ElementType> element_type(at::ScalarType type);

/// As ringweave::accumulate_type; fp32 for all types but fp64.
at::ScalarType accumulate_type(at::ScalarType type);

}  // namespace ringweave::tensor
