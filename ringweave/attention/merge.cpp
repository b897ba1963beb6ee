#include "ringweave/attention/merge.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace ringweave::attention {
namespace {

/// Numbers of a row that are worth a thread of their own.
constexpr std::int64_t kMergeGrain = 1 << 14;

/// A tensor's data and strides; `out` is (batch, rows, heads, head_dim) with a
/// last stride of 1, `lse` (batch, heads, rows).
template <typename T>
struct Rows {
  explicit Rows(const Partial& partial)
      : out(partial.out.data_ptr<T>()),
        lse(partial.lse.data_ptr<T>()),
        out_strides{partial.out.stride(0), partial.out.stride(1),
                    partial.out.stride(2)},
        lse_strides{partial.lse.stride(0), partial.lse.stride(1),
                    partial.lse.stride(2)} {}

  T* out_at(std::int64_t batch, std::int64_t row, std::int64_t head) const {
    return out + batch * out_strides[0] + row * out_strides[1] +
           head * out_strides[2];
  }
  T& lse_at(std::int64_t batch, std::int64_t row, std::int64_t head) const {
    return lse[batch * lse_strides[0] + head * lse_strides[1] +
               row * lse_strides[2]];
  }

  T* out;
  T* lse;
  std::int64_t out_strides[3];
  std::int64_t lse_strides[3];
};

/// The weights of two parts, and the lse of both.
template <typename T>
struct Weights {
  Weights(T a, T b) {
    if (std::isnan(a) || std::isnan(b)) {
      lse = of_a = of_b = std::numeric_limits<T>::quiet_NaN();
      return;
    }
    const T most = std::max(a, b);
    if (std::isinf(most) && most < 0) return;  // neither sees a key
    lse = most + std::log1p(std::exp(std::min(a, b) - most));
    of_a = std::exp(a - lse);
    of_b = std::exp(b - lse);
  }

  T lse = -std::numeric_limits<T>::infinity();
  T of_a = 1;
  T of_b = 0;
};

template <typename T>
void merge_on_cpu(const Partial& total, const Partial& part) {
  const Rows<T> to(total);
  const Rows<T> from(part);
  const std::int64_t rows = total.out.size(1);
  const std::int64_t heads = total.out.size(2);
  const std::int64_t dim = total.out.size(3);
  at::parallel_for(0, total.out.size(0) * rows,
                   std::max<std::int64_t>(1, kMergeGrain / (heads * dim)),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       const std::int64_t batch = i / rows;
                       const std::int64_t row = i % rows;
                       for (std::int64_t head = 0; head < heads; ++head) {
                         T& lse = to.lse_at(batch, row, head);
                         const Weights<T> weights(
                             lse, from.lse_at(batch, row, head));
                         lse = weights.lse;
                         T* a = to.out_at(batch, row, head);
                         const T* b = from.out_at(batch, row, head);
                         for (std::int64_t d = 0; d < dim; ++d) {
                           a[d] = weights.of_a * a[d] + weights.of_b * b[d];
                         }
                       }
                     }
                   });
}

/// Six operations on the whole: out + w (part - out), where
/// w = 1 / (1 + exp(lse - part's lse)). The difference of two rows without keys
/// is no number, but both are 0.
void merge_anywhere(const Partial& total, const Partial& part) {
  // (batch, heads, rows) → (batch, rows, heads, 1)
  const at::Tensor weight = (part.lse - total.lse)
                                .masked_fill_(part.lse == total.lse, 0.0)
                                .sigmoid_()
                                .transpose(1, 2)
                                .unsqueeze(-1);
  total.out.lerp_(part.out, weight);
  at::Tensor lse = total.lse;
  at::logaddexp_out(lse, lse, part.lse);
}

}  // namespace

void merge_into(const Partial& total, const Partial& part) {
  if (!total.out.is_cpu() || total.out.stride(-1) != 1 ||
      part.out.stride(-1) != 1) {
    return merge_anywhere(total, part);
  }
  if (total.out.scalar_type() == at::kDouble) {
    merge_on_cpu<double>(total, part);
  } else {
    merge_on_cpu<float>(total, part);
  }
}

void clear(const Partial& total) {
  total.out.zero_();
  total.lse.fill_(-std::numeric_limits<double>::infinity());
}

void clear(const Partial& total, const at::Tensor& blind) {
  total.out.masked_fill_(blind.view({1, -1, 1, 1}), 0);
  total.lse.masked_fill_(blind, -std::numeric_limits<double>::infinity());
}

}  // namespace ringweave::attention
