// For tests: a problem, solved by a plain loop on one device and by ranks.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/convolution/convolution.h"

namespace ringweave::convolution {

using comm::Communicator;
using schedule::Layout;
using schedule::Mask;

inline constexpr std::int64_t kBatch = 2;
inline constexpr std::int64_t kChannels = 5;
inline constexpr int kRanks[] = {1, 2, 3, 4, 5, 7, 8};

/// What is computed, whatever the ranks.
struct Problem {
  std::int64_t width = 4;
  Mask mask = Mask::causal();
  at::Tensor x = {}, weight = {}, bias = {};
  at::Tensor state = {};  ///< initial; a final one is asked for if defined
  at::Tensor dout = {}, dfinal = {};

  std::int64_t tokens() const { return x.size(1); }
};

inline at::Tensor leaf(const at::Tensor& x) {
  return x.defined() ? x.detach().clone().set_requires_grad(true) : x;
}

inline Problem make_problem(std::int64_t tokens, std::int64_t width,
                            const Mask& mask, bool states,
                            at::ScalarType type = at::kDouble,
                            std::int64_t channels = kChannels) {
  auto generator = at::detail::createCPUGenerator(
      static_cast<std::uint64_t>(10 * tokens + width));
  const auto normal = [&](std::vector<std::int64_t> shape) {
    return at::randn(shape, generator, at::kDouble);
  };
  const at::ScalarType sums = type == at::kDouble ? type : at::kFloat;
  Problem p{.width = width, .mask = mask};
  p.x = normal({kBatch, tokens, channels}).to(type);
  p.weight = normal({channels, width}).to(sums);
  p.dout = normal({kBatch, tokens, channels}).to(type);
  if (states) {
    p.bias = normal({channels}).to(sums);
    p.state = normal({kBatch, width - 1, channels}).to(type);
    p.dfinal = normal({kBatch, width - 1, channels}).to(type);
  }
  return p;
}

struct Everything {
  at::Tensor out, final_state, dx, dweight, dbias, dstate;
};

/// The definition, in fp64.
inline Everything by_loop(const Problem& p) {
  const auto wide = [](const at::Tensor& x) {
    return leaf(x.defined() ? x.to(at::kDouble) : x);
  };
  const at::Tensor x = wide(p.x), weight = wide(p.weight), bias = wide(p.bias),
                   state = wide(p.state);
  const std::vector<std::int64_t>& starts = p.mask.document_offsets();
  const std::int64_t reach = p.width - 1;
  const at::Tensor zero = at::zeros({kBatch, x.size(2)}, at::kDouble);
  const auto start_of = [&](std::int64_t t) {
    std::int64_t found = 0;
    for (const std::int64_t start : starts) {
      if (start <= t) found = start;
    }
    return found;
  };
  // The input at `t` as seen from a document that starts at `start`.
  const auto input = [&](std::int64_t t, std::int64_t start) {
    if (t >= start && t >= 0) return x.select(1, t);
    return start == 0 && state.defined() ? state.select(1, reach + t) : zero;
  };
  std::vector<at::Tensor> outs;
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    at::Tensor y = bias.defined() ? bias.expand({kBatch, x.size(2)}) : zero;
    for (std::int64_t j = 0; j <= reach; ++j) {
      y = y + weight.select(1, reach - j) * input(t - j, start_of(t));
    }
    outs.push_back(y);
  }
  const at::Tensor out = outs.empty() ? x * 1.0 : at::stack(outs, 1);
  at::Tensor loss = (out * p.dout).sum();
  at::Tensor final_state;
  if (p.state.defined()) {
    const std::int64_t last = p.tokens() == 0 ? 0 : start_of(p.tokens() - 1);
    std::vector<at::Tensor> rows;
    for (std::int64_t t = p.tokens() - reach; t < p.tokens(); ++t) {
      rows.push_back(input(t, last));
    }
    if (!rows.empty()) {
      final_state = at::stack(rows, 1);
      loss = loss + (final_state * p.dfinal).sum();
    }
  }
  loss.backward();
  if (p.state.defined() && !final_state.defined()) final_state = p.dfinal * 0;
  const auto gradient = [](const at::Tensor& t) {
    if (!t.defined()) return t;
    return t.grad().defined() ? t.grad() : at::zeros_like(t);
  };
  return {out,
          final_state,
          gradient(x),
          gradient(weight),
          gradient(bias),
          gradient(state)};
}

inline at::Tensor positions(const Layout& layout, Rank rank) {
  return at::tensor(layout.positions(rank), at::kLong);
}

/// What one rank returns; sums over ranks as they are on that rank.
inline Everything on_rank(const Problem& p, const Layout& layout,
                          Communicator& communicator) {
  const Rank rank = communicator.rank();
  const at::Tensor index = positions(layout, rank);
  const at::Tensor x = leaf(p.x.index_select(1, index)),
                   weight = leaf(p.weight), bias = leaf(p.bias),
                   state = leaf(p.state);
  const auto plan = make_convolution_plan(
      {.layout = layout, .width = p.width, .mask = p.mask}, rank);
  const ConvolutionResult result =
      causal_convolution(x, weight, bias, state, plan, communicator,
                         {.final_state = p.state.defined()});
  at::Tensor loss = (result.out * p.dout.index_select(1, index)).sum();
  if (p.state.defined()) {
    // Each rank contributes part of the gradient of the final state.
    const int n = communicator.size();
    const double share = 2.0 * (rank + 1) / (n * (n + 1));
    loss = loss + (result.final_state * p.dfinal).sum() * share;
  }
  loss.backward();
  EXPECT_TRUE(x.equal(p.x.index_select(1, index)));
  return {result.out.detach(),
          p.state.defined() ? result.final_state.detach() : at::Tensor(),
          x.grad(),
          weight.grad(),
          bias.defined() ? bias.grad() : bias,
          state.defined() ? state.grad() : state};
}

inline Everything by_ranks(const Problem& p, const Layout& layout,
                           comm::FaultInjection faults = {}) {
  std::vector<Everything> parts(layout.ranks());
  comm::run_ranks(
      layout.ranks(),
      [&](Rank rank, std::shared_ptr<comm::Transport> messages) {
        Communicator communicator(std::move(messages));
        parts[rank] = on_rank(p, layout, communicator);
      },
      faults);
  Everything all{
      .out = at::zeros_like(p.x),
      .final_state = parts[0].final_state,
      .dx = at::zeros_like(p.x),
      .dweight = at::zeros_like(p.weight),
      .dbias = p.bias.defined() ? at::zeros_like(p.bias) : p.bias,
      .dstate = p.state.defined() ? at::zeros_like(p.state) : p.state};
  for (Rank r = 0; r < layout.ranks(); ++r) {
    const at::Tensor index = positions(layout, r);
    all.out.index_copy_(1, index, parts[r].out);
    all.dx.index_copy_(1, index, parts[r].dx);
    all.dweight.add_(parts[r].dweight);
    if (p.bias.defined()) all.dbias.add_(parts[r].dbias);
    if (p.state.defined()) {
      all.dstate.add_(parts[r].dstate);
      EXPECT_TRUE(parts[r].final_state.equal(parts[0].final_state));
    }
  }
  return all;
}

/// max|a - b| <= tolerance · max(1, max|b|), and the same shape.
inline void expect_close(const at::Tensor& a, const at::Tensor& b,
                         double tolerance, const char* what) {
  ASSERT_EQ(a.defined(), b.defined()) << what;
  if (!a.defined()) return;
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  if (a.numel() == 0) return;
  const at::Tensor want = b.detach().to(at::kDouble);
  EXPECT_LE((a.detach().to(at::kDouble) - want).abs().max().item<double>(),
            tolerance * std::max(1.0, want.abs().max().item<double>()))
      << what;
}

inline void check(const Problem& p, const Everything& want,
                  const Layout& layout, double tolerance = 1e-10,
                  comm::FaultInjection faults = {}) {
  SCOPED_TRACE(fmt::format("width {}, {} ranks, layout {}", p.width,
                           layout.ranks(), layout.to_json().dump()));
  const Everything got = by_ranks(p, layout, faults);
  expect_close(got.out, want.out, tolerance, "out");
  expect_close(got.dx, want.dx, tolerance, "dx");
  expect_close(got.dweight, want.dweight, tolerance, "dweight");
  expect_close(got.dbias, want.dbias, tolerance, "dbias");
  if (p.state.defined()) {
    expect_close(got.final_state, want.final_state, tolerance, "final state");
    expect_close(got.dstate, want.dstate, tolerance, "dstate");
  }
}

/// Only every second rank has tokens, and the first has none.
inline Layout with_empty_shards(std::int64_t tokens, int ranks) {
  if (ranks == 1) return Layout::contiguous(tokens, 1);
  std::vector<std::int64_t> lengths;
  for (int r = 0; r < ranks; ++r) {
    lengths.push_back(r % 2 == 0 ? 0
                                 : cut({0, tokens}, r / 2, ranks / 2).size());
  }
  return Layout::contiguous(lengths);
}

/// One or two tokens on all ranks but the last.
inline Layout short_shards(std::int64_t tokens, int ranks) {
  std::vector<std::int64_t> lengths;
  std::int64_t rest = tokens;
  for (int r = 0; r + 1 < ranks; ++r) {
    lengths.push_back(std::min<std::int64_t>(rest, 1 + r % 2));
    rest -= lengths.back();
  }
  lengths.push_back(rest);
  return Layout::contiguous(lengths);
}

/// Every rank has several short runs, between which are those of others.
inline Layout scattered(std::int64_t tokens, int ranks) {
  std::vector<std::vector<schedule::Run>> runs(ranks);
  const int pieces = 5 * ranks - 1;
  for (int i = 0; i < pieces; ++i) {
    const Range piece = cut({0, tokens}, i, pieces);
    runs[(i * 5 + 1) % ranks].push_back({piece.begin, piece.size()});
  }
  return Layout::from_runs(tokens, runs);
}

inline std::vector<Layout> layouts(std::int64_t tokens, int ranks) {
  return {Layout::contiguous(tokens, ranks), Layout::zigzag(tokens, ranks),
          with_empty_shards(tokens, ranks), short_shards(tokens, ranks),
          scattered(tokens, ranks)};
}

}  // namespace ringweave::convolution
