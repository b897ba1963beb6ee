// Joins softmaxes over different keys into one.
#pragma once

#include <ATen/core/Tensor.h>

#include "ringweave/attention/kernel.h"

namespace ringweave::attention {

/// lse = logaddexp(lse_a, lse_b), out = exp(lse_a - lse)·out_a + exp(lse_b -
/// lse)·out_b, in place in `total`; rows without keys on both sides keep out 0
/// and lse -inf. Reads and writes `total` once.
void merge_into(const Partial& total, const Partial& part);

/// Makes `total` a row without keys everywhere: out 0, lse -inf.
void clear(const Partial& total);
/// The same of those rows at which `blind`, (rows), is true.
void clear(const Partial& total, const at::Tensor& blind);

}  // namespace ringweave::attention
