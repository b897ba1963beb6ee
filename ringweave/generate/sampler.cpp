#include "ringweave/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/base/splitmix.h"

namespace ringweave::generate {
namespace {

/// The likeliest first, at most `most` of them.
std::vector<std::int64_t> likeliest(std::span<const double> logits,
                                    std::size_t most) {
  std::vector<std::int64_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](std::int64_t a, std::int64_t b) {
    const double x = logits[static_cast<std::size_t>(a)];
    const double y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const auto end = ids.begin() + static_cast<std::ptrdiff_t>(most);
  std::partial_sort(ids.begin(), end, ids.end(), before);
  ids.resize(most);
  return ids;
}

std::int64_t draw(std::span<const double> logits, const Sampling& sampling,
                  std::uint64_t index) {
  std::size_t most = logits.size();
  if (sampling.temperature == 0) {
    most = 1;
  } else if (sampling.top_k > 0) {
    most = std::min(most, static_cast<std::size_t>(sampling.top_k));
  }
  const std::vector<std::int64_t> ids = likeliest(logits, most);
  if (most == 1) return ids.front();

  const double top = logits[static_cast<std::size_t>(ids.front())];
  std::vector<double> sums;  // of the weights up to each
  double sum = 0;
  for (const std::int64_t id : ids) {
    sum += std::exp((logits[static_cast<std::size_t>(id)] - top) /
                    sampling.temperature);
    sums.push_back(sum);
  }
  // The first place at which the share is reached; rounding may leave none.
  const auto place = [&](double share, std::ptrdiff_t count) {
    const auto end = sums.begin() + count;
    const auto found = std::lower_bound(sums.begin(), end, share * *(end - 1));
    return std::min(found - sums.begin(), count - 1);
  };
  const std::ptrdiff_t kept =
      place(sampling.top_p, static_cast<std::ptrdiff_t>(sums.size())) + 1;
  return ids[static_cast<std::size_t>(
      place(uniform(sampling.seed, index), kept))];
}

}  // namespace

void check(const Sampling& sampling) {
  require(std::isfinite(sampling.temperature) && sampling.temperature >= 0,
          "[temperature] got {}; want 0, for the likeliest token, or more",
          sampling.temperature);
  require(sampling.top_k >= 0, "[top_k] got {}; want 0, for all, or more",
          sampling.top_k);
  require(sampling.top_p > 0 && sampling.top_p <= 1,
          "[top_p] got {}; want more than 0 and at most 1", sampling.top_p);
}

double uniform(std::uint64_t seed, std::uint64_t index) {
  constexpr int kBits = 53;  // of a double
  const std::uint64_t bits = splitmix64(splitmix64(seed) ^ index);
  return std::ldexp(static_cast<double>((bits >> (64 - kBits)) + 1), -kBits);
}

Choice choose(const at::Tensor& logits, const Sampling& sampling,
              std::uint64_t index) {
  const at::Tensor values = logits.to(at::kDouble).contiguous();
  const std::span<const double> all(values.const_data_ptr<double>(),
                                    static_cast<std::size_t>(values.numel()));
  const double top = *std::ranges::max_element(all);
  if (std::ranges::any_of(all, [](double x) { return std::isnan(x); }) ||
      !std::isfinite(top)) {
    throw Error(
        "[generate] got logits that are NaN or infinite; want finite ones: the "
        "weights may be damaged, or the type too narrow");
  }
  double sum = 0;
  for (const double logit : all) sum += std::exp(logit - top);
  const std::int64_t token = draw(all, sampling, index);
  return {token, all[static_cast<std::size_t>(token)] - top - std::log(sum)};
}

}  // namespace ringweave::generate
