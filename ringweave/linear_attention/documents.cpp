#include "ringweave/linear_attention/documents.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace ringweave::linear_attention {
namespace {

/// (…, tokens, rows of each, dims)
at::Tensor by_token(const at::Tensor& x, const at::Tensor& tokens) {
  return x.unflatten(-2, {tokens.size(-2), -1});
}

/// An overflow of the sum counts as well, which costs time alone.
bool is_finite(const at::Tensor& x) {
  return at::isfinite(x.sum()).item<bool>();
}

}  // namespace

at::Tensor replaced(const at::Tensor& x, const at::Tensor& tokens,
                    double value) {
  return tokens.defined() ? replace(x.clone(), tokens, value) : x;
}

const at::Tensor& replace(const at::Tensor& x, const at::Tensor& tokens,
                          double value) {
  if (tokens.defined()) {
    by_token(x, tokens).masked_fill_(tokens.unsqueeze(-2), value);
  }
  return x;
}

Documents::Documents(const std::vector<std::int64_t>& first_tokens,
                     std::int64_t chunks, std::int64_t chunk,
                     at::Device device) {
  if (first_tokens.empty()) return;
  starts = at::zeros({chunks * chunk}, at::kBool)
               .index_fill_(0, at::tensor(first_tokens, at::kLong), true)
               .view({chunks, 1, 1, chunk, 1})
               .to(device);
  index_ = starts.cumsum(-2);
  unread = index_ > 0;
  unkept = index_ < index_.narrow(-2, chunk - 1, 1);
  cut = unread.narrow(-2, chunk - 1, 1);
}

void Documents::separate(
    const std::vector<at::Tensor>& results,
    const std::function<std::vector<at::Tensor>(const at::Tensor&)>& compute)
    const {
  if (!index_.defined() ||
      std::all_of(results.begin(), results.end(), is_finite)) {
    return;
  }
  const auto last = index_.max().item<std::int64_t>();
  for (std::int64_t document = 0; document <= last; ++document) {
    const at::Tensor others = index_ != document;
    const std::vector<at::Tensor> alone = compute(others);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const at::Tensor rows = by_token(results[i], others);
      rows.copy_(
          at::where(others.unsqueeze(-2), rows, by_token(alone[i], others)));
    }
  }
}

}  // namespace ringweave::linear_attention
