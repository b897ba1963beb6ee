#include "ringweave/convolution/kernel.h"

#include <algorithm>
#include <array>
#include <span>
#include <type_traits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ringweave/tensor/for_type.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::convolution {
namespace {

/// Channels whose sums stay in the first-level cache, and tokens whose products
/// are summed before they are added to the sum over all tokens: so rounding
/// errors grow with the square root of a sequence's blocks, not of its tokens.
constexpr std::int64_t kChannels = 256;
constexpr std::int64_t kGradientChannels = 64;
constexpr std::int64_t kGradientTokens = 256;
/// Products that are worth a thread.
constexpr std::int64_t kGrain = 32768;

template <typename T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// The rows of a contiguous tensor (batch, rows, channels).
template <typename T>
class Rows {
 public:
  explicit Rows(const at::Tensor& x)
      : data_(x.data_ptr<T>()), rows_(x.size(1)), channels_(x.size(2)) {}

  T* row(std::int64_t batch, std::int64_t i) const {
    return data_ + (batch * rows_ + i) * channels_;
  }

 private:
  T* data_;
  std::int64_t rows_;
  std::int64_t channels_;
};

/// out = bias + Σ_j taps[width-1-j] ⊙ terms[j], without the terms that are
/// null.
template <typename T, typename Out>
void weighted_sum(std::span<const T* const> terms, const Sum<T>* taps,
                  const Sum<T>* bias, Out* out, std::int64_t channels) {
  std::array<Sum<T>, kChannels> sums;
  const auto width = static_cast<std::int64_t>(terms.size());
  for (std::int64_t begin = 0; begin < channels; begin += kChannels) {
    const std::int64_t count = std::min(kChannels, channels - begin);
    for (std::int64_t c = 0; c < count; ++c)
      sums[c] = bias ? bias[begin + c] : 0;
    for (std::int64_t j = 0; j < width; ++j) {
      if (!terms[j]) continue;
      const T* term = terms[j] + begin;
      const Sum<T>* tap = taps + (width - 1 - j) * channels + begin;
      for (std::int64_t c = 0; c < count; ++c) {
        sums[c] += tap[c] * static_cast<Sum<T>>(term[c]);
      }
    }
    for (std::int64_t c = 0; c < count; ++c) {
      out[begin + c] = static_cast<Out>(sums[c]);
    }
  }
}

/// The inputs that the tokens of a piece see.
template <typename T>
class Seen {
 public:
  explicit Seen(const Operands& in) : x_(in.x), table_(in.table) {}

  /// Token `i` of the piece, in the halo below 0; null before that.
  const T* token(std::int64_t batch, const Piece& piece, std::int64_t i) const {
    if (i >= 0) return x_.row(batch, piece.tokens.begin + i);
    const std::int64_t row = piece.halo.size() + i;
    return row >= 0 ? table_.row(batch, piece.halo.begin + row) : nullptr;
  }

 private:
  Rows<T> x_;
  Rows<T> table_;
};

/// Calls body(batch, i) for each i in `tokens` of each batch, by several
/// threads. body is a copy for each of them.
template <typename Body>
void for_tokens(const at::Tensor& x, const Range& tokens, std::int64_t width,
                const Body& body) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrain / (x.size(2) * width));
  at::parallel_for(0, x.size(0) * tokens.size(), grain,
                   [&](std::int64_t begin, std::int64_t end) {
                     Body own = body;
                     for (std::int64_t i = begin; i < end; ++i) {
                       own(i / tokens.size(), tokens.begin + i % tokens.size());
                     }
                   });
}

/// Of a piece's tokens, counted from its first.
Range tokens_of(const Piece& piece, Part part, std::int64_t width) {
  const std::int64_t count = piece.tokens.size();
  const std::int64_t first =
      piece.halo.empty() ? 0 : std::min(count, width - 1);
  switch (part) {
    case Part::first:
      return {0, first};
    case Part::rest:
      return {first, count};
    case Part::all:
      break;
  }
  return {0, count};
}

template <typename T>
void convolve_as(const Operands& in, const std::vector<Piece>& pieces,
                 Part part, const at::Tensor& out) {
  const std::int64_t width = in.taps.size(0);
  const Seen<T> seen(in);
  const Rows<T> outs(out);
  const auto* taps = in.taps.const_data_ptr<Sum<T>>();
  const auto* bias =
      in.bias.defined() ? in.bias.const_data_ptr<Sum<T>>() : nullptr;
  for (const Piece& piece : pieces) {
    for_tokens(in.x, tokens_of(piece, part, width), width,
               [&, terms = std::vector<const T*>(width)](
                   std::int64_t batch, std::int64_t i) mutable {
                 for (std::int64_t j = 0; j < width; ++j) {
                   terms[j] = seen.token(batch, piece, i - j);
                 }
                 weighted_sum<T>(std::span<const T* const>(terms), taps, bias,
                                 outs.row(batch, piece.tokens.begin + i),
                                 in.x.size(2));
               });
  }
}

/// Of the piece's tokens in `tokens`, those of the halo below 0, to
/// place(batch, i).
template <typename T, typename Place>
void input_gradients(const at::Tensor& dout, const at::Tensor& taps,
                     const Piece& piece, const Range& tokens,
                     const Place& place) {
  const std::int64_t width = taps.size(0);
  const Rows<T> douts(dout);
  const auto* tap = taps.const_data_ptr<Sum<T>>();
  for_tokens(dout, tokens, width,
             [&, terms = std::vector<const T*>(width)](std::int64_t batch,
                                                       std::int64_t i) mutable {
               for (std::int64_t j = 0; j < width; ++j) {
                 const bool within = i + j >= 0 && i + j < piece.tokens.size();
                 terms[j] = within
                                ? douts.row(batch, piece.tokens.begin + i + j)
                                : nullptr;
               }
               weighted_sum<T>(std::span<const T* const>(terms), tap, nullptr,
                               place(batch, i), dout.size(2));
             });
}

/// Sums of one block of channels.
template <typename T>
class WeightSums {
 public:
  WeightSums(const at::Tensor& dout, const Operands& in, const Range& channels)
      : width_(in.taps.size(0)),
        channels_(channels),
        douts_(dout),
        seen_(in),
        block_(static_cast<std::size_t>((width_ + 1) * channels.size())),
        sums_(block_.size()) {}

  /// Tokens of a piece, counted from its first.
  void add(std::int64_t batch, const Piece& piece, const Range& tokens) {
    std::ranges::fill(block_, 0);
    for (std::int64_t i = tokens.begin; i < tokens.end; ++i) {
      const T* dout =
          douts_.row(batch, piece.tokens.begin + i) + channels_.begin;
      for (std::int64_t j = 0; j < width_; ++j) {
        const T* x = seen_.token(batch, piece, i - j);
        if (!x) break;
        Sum<T>* sum = block_.data() + (width_ - 1 - j) * channels_.size();
        for (std::int64_t c = 0; c < channels_.size(); ++c) {
          sum[c] += static_cast<Sum<T>>(dout[c]) *
                    static_cast<Sum<T>>(x[channels_.begin + c]);
        }
      }
      Sum<T>* sum = block_.data() + width_ * channels_.size();
      for (std::int64_t c = 0; c < channels_.size(); ++c) {
        sum[c] += static_cast<Sum<T>>(dout[c]);
      }
    }
    for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += block_[i];
  }

  void put(const WeightGradients& gradients) const {
    const std::int64_t all = gradients.bias.size(0);
    auto* taps = gradients.taps.data_ptr<Sum<T>>();
    const Sum<T>* sum = sums_.data();
    for (std::int64_t k = 0; k < width_; ++k, sum += channels_.size()) {
      std::copy_n(sum, channels_.size(), taps + k * all + channels_.begin);
    }
    std::copy_n(sum, channels_.size(),
                gradients.bias.data_ptr<Sum<T>>() + channels_.begin);
  }

 private:
  std::int64_t width_;
  Range channels_;
  Rows<T> douts_;
  Seen<T> seen_;
  std::vector<Sum<T>> block_;  ///< rows of taps, then of the bias
  std::vector<Sum<T>> sums_;
};

template <typename T>
void sum_weights(const at::Tensor& dout, const Operands& in,
                 const std::vector<Piece>& pieces, const Range& channels,
                 const WeightGradients& gradients) {
  WeightSums<T> sums(dout, in, channels);
  for (std::int64_t batch = 0; batch < dout.size(0); ++batch) {
    for (const Piece& piece : pieces) {
      const std::int64_t count = piece.tokens.size();
      for (std::int64_t i = 0; i < count; i += kGradientTokens) {
        sums.add(batch, piece, {i, std::min(count, i + kGradientTokens)});
      }
    }
  }
  sums.put(gradients);
}

}  // namespace

void convolve(const Operands& in, const std::vector<Piece>& pieces, Part part,
              const at::Tensor& out) {
  tensor::for_type(in.x.scalar_type(), [&](auto type) {
    convolve_as<decltype(type)>(in, pieces, part, out);
  });
}

void halo_gradients(const at::Tensor& dout, const at::Tensor& taps,
                    const std::vector<Piece>& pieces,
                    const at::Tensor& dtable) {
  tensor::for_type(dout.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const Rows<Sum<T>> rows(dtable);
    for (const Piece& piece : pieces) {
      input_gradients<T>(dout, taps, piece, {-piece.halo.size(), 0},
                         [&](std::int64_t batch, std::int64_t i) {
                           return rows.row(batch, piece.halo.end + i);
                         });
    }
  });
}

void token_gradients(const at::Tensor& dout, const at::Tensor& taps,
                     const std::vector<Piece>& pieces, const at::Tensor& dx) {
  tensor::for_type(dout.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const Rows<Sum<T>> rows(dx);
    for (const Piece& piece : pieces) {
      input_gradients<T>(dout, taps, piece, {0, piece.tokens.size()},
                         [&](std::int64_t batch, std::int64_t i) {
                           return rows.row(batch, piece.tokens.begin + i);
                         });
    }
  });
}

WeightGradients weight_gradients(const at::Tensor& dout, const Operands& in,
                                 const std::vector<Piece>& pieces) {
  const std::int64_t channels = dout.size(2);
  const WeightGradients gradients{at::empty_like(in.taps),
                                  in.taps.new_empty({channels})};
  tensor::for_type(dout.scalar_type(), [&](auto type) {
    at::parallel_for(0, (channels + kGradientChannels - 1) / kGradientChannels,
                     1, [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i) {
                         sum_weights<decltype(type)>(
                             dout, in, pieces,
                             {i * kGradientChannels,
                              std::min(channels, (i + 1) * kGradientChannels)},
                             gradients);
                       }
                     });
  });
  return gradients;
}

}  // namespace ringweave::convolution
