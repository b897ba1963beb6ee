#include "ringweave/linear_attention/segment.h"

#include <limits>
#include <numeric>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ringweave/linear_attention/reference.h"

namespace ringweave::linear_attention {
namespace {

using reference::close;
using reference::leaf;

struct Case {
  Decay decay = Decay::none;
  std::vector<std::int64_t> segments;
  std::vector<std::int64_t> documents;
  double gate_size = 0.3;  ///< gates are -gate_size · |normal|
  double infinite = 0;     ///< share of gates that are -inf
  at::ScalarType type = at::kDouble;
  bool causal = true;
};

struct Problem {
  Inputs inputs;
  at::Tensor state, dout, dfinal;
  schedule::Mask mask = schedule::Mask::causal();
};

at::Tensor normal(at::IntArrayRef shape, at::Generator& generator) {
  return at::randn(shape, generator, at::kDouble);
}

Problem make_problem(const Case& c, std::uint64_t seed) {
  constexpr std::int64_t kBatch = 2, kHeads = 2, kKey = 3, kValue = 5;
  at::Generator g = at::make_generator<at::CPUGeneratorImpl>(seed);
  const std::int64_t tokens =
      std::accumulate(c.segments.begin(), c.segments.end(), std::int64_t{0});
  Problem p;
  p.inputs.q = normal({kBatch, tokens, kHeads, kKey}, g);
  p.inputs.k = normal({kBatch, tokens, kHeads, kKey}, g);
  p.inputs.v = normal({kBatch, tokens, kHeads, kValue}, g);
  p.inputs.decay = c.decay;
  p.inputs.scale = 0.7;
  p.inputs.causal = c.causal;
  p.inputs.type = c.type;
  std::vector<std::int64_t> shape;
  if (c.decay == Decay::constant) shape = {kHeads};
  if (c.decay == Decay::per_head) shape = {kBatch, tokens, kHeads};
  if (c.decay == Decay::per_key) shape = {kBatch, tokens, kHeads, kKey};
  if (c.decay != Decay::none) {
    p.inputs.gates = -c.gate_size * normal(shape, g).abs();
    p.inputs.gates.masked_fill_(at::rand(shape, g, at::kDouble) < c.infinite,
                                -std::numeric_limits<double>::infinity());
  }
  p.state = normal({kBatch, kHeads, kKey, kValue}, g);
  p.dout = normal({kBatch, tokens, kHeads, kValue}, g);
  p.dfinal = normal({kBatch, kHeads, kKey, kValue}, g);
  if (!c.documents.empty()) p.mask = p.mask.with_documents(c.documents);
  if (!c.causal) p.mask = schedule::Mask::full();
  return p;
}

struct Everything {
  at::Tensor out, final_state, dq, dk, dv, dgates, dstate;
};

Everything by_recurrence(const Problem& p) {
  const Inputs& in = p.inputs;
  const at::Tensor q = leaf(in.q), k = leaf(in.k), v = leaf(in.v),
                   gates = leaf(in.gates), state = leaf(p.state);
  const reference::Result result =
      reference::recurrence(q, k, v, in.decay, gates, state, p.mask, in.scale);
  ((result.out * p.dout).sum() + (result.final_state * p.dfinal).sum())
      .backward();
  return {result.out,  result.final_state,
          q.grad(),    k.grad(),
          v.grad(),    gates.defined() ? gates.grad() : gates,
          state.grad()};
}

std::vector<SegmentTokens> segment_tokens(const Case& c) {
  std::vector<SegmentTokens> result;
  std::int64_t first = 0;
  for (const std::int64_t length : c.segments) {
    SegmentTokens tokens{{first, first + length}, {}};
    for (const std::int64_t start : c.documents) {
      if (start > 0 && start >= first && start < first + length) {
        tokens.resets.push_back(start - first);
      }
    }
    result.push_back(tokens);
    first += length;
  }
  return result;
}

at::Tensor decayed(const at::Tensor& state, const at::Tensor& decay) {
  return decay.defined() ? state * decay.exp() : state;
}

/// Scans the segments one after the other, as the exchange does.
Everything by_segments(const Problem& p, const Case& c, bool prepare) {
  const std::vector<SegmentTokens> parts = segment_tokens(c);
  Inputs in = p.inputs;
  in.q = in.q.to(c.type), in.k = in.k.to(c.type), in.v = in.v.to(c.type);
  if (in.gates.defined()) in.gates = in.gates.to(c.type);
  Everything e;
  e.out = at::empty_like(in.v);
  e.final_state = p.state.to(c.type);
  std::vector<at::Tensor> kept, decays;
  for (const SegmentTokens& part : parts) {
    ForwardSegment segment(in, part);
    const at::Tensor start = e.final_state;
    decays.push_back(segment.decay());
    const bool fixed = in.decay == Decay::none || in.decay == Decay::constant;
    if (fixed && in.causal && decays.back().defined()) {
      EXPECT_TRUE(
          at::allclose(decays.back(), fixed_decays(in, {part}).squeeze(0)));
    }
    if (prepare) {
      for (int b = segment.blocks() - 1; b >= 0; --b) segment.prepare(b);
    }
    e.final_state = decayed(e.final_state, decays.back()) + segment.update();
    if (!in.causal) continue;
    segment.finish(start, e.out);
    kept.push_back(segment.kept());
  }
  if (!in.causal) {
    for (const SegmentTokens& part : parts) {
      ForwardSegment segment(in, part);
      segment.finish(e.final_state, e.out);
      kept.push_back(segment.kept());
    }
  }
  const Gradients grads{
      at::empty_like(in.q), at::empty_like(in.k), at::empty_like(in.v),
      in.gates.defined() ? at::zeros_like(in.gates) : at::Tensor()};
  e.dstate = p.dfinal.to(c.type);
  std::vector<BackwardSegment> segments;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    segments.emplace_back(in, parts[i], kept[i], p.dout.to(c.type),
                          in.gates.defined());
    if (!in.causal) e.dstate = e.dstate + segments.back().update();
  }
  for (int i = static_cast<int>(parts.size()) - 1; i >= 0; --i) {
    if (prepare) {
      for (int b = 0; b < segments[i].blocks(); ++b) segments[i].prepare(b);
    }
    segments[i].finish(e.dstate, grads);
    if (in.causal) {
      e.dstate = decayed(e.dstate, decays[i]) + segments[i].update();
    }
  }
  e.dq = grads.q, e.dk = grads.k, e.dv = grads.v, e.dgates = grads.gates;
  return e;
}

void expect_close(const Everything& got, const Everything& want,
                  double tolerance) {
  EXPECT_TRUE(close(got.out, want.out, tolerance));
  EXPECT_TRUE(close(got.final_state, want.final_state, tolerance));
  EXPECT_TRUE(close(got.dq, want.dq, tolerance));
  EXPECT_TRUE(close(got.dk, want.dk, tolerance));
  EXPECT_TRUE(close(got.dv, want.dv, tolerance));
  EXPECT_TRUE(close(got.dstate, want.dstate, tolerance));
  if (want.dgates.defined()) {
    EXPECT_TRUE(close(got.dgates, want.dgates, tolerance));
  }
}

void check(const Case& c, double tolerance = 1e-10) {
  SCOPED_TRACE(fmt::format("decay {}", static_cast<int>(c.decay)));
  const Problem p = make_problem(c, 17);
  const Everything want = by_recurrence(p);
  expect_close(by_segments(p, c, false), want, tolerance);
  expect_close(by_segments(p, c, true), want, tolerance);
}

constexpr Decay kDecays[] = {Decay::none, Decay::constant, Decay::per_head,
                             Decay::per_key};

TEST(Segment, LengthsAroundChunkBoundaries) {
  for (const Decay decay : kDecays) {
    for (const std::int64_t tokens :
         {1, 2, 3, 5, 8, 31, 63, 64, 65, 128, 150}) {
      SCOPED_TRACE(tokens);
      check({.decay = decay, .segments = {tokens}, .documents = {}});
    }
  }
}

TEST(Segment, SeveralSegments) {
  for (const Decay decay : kDecays) {
    check({.decay = decay, .segments = {7, 1, 66, 12, 5}, .documents = {}});
  }
}

/// Several stretches of chunks, with and without documents that start in them.
TEST(Segment, SeveralStretches) {
  for (const Decay decay : {Decay::constant, Decay::per_key}) {
    const double size = 1e-3;  // what is far back counts
    check({.decay = decay,
           .segments = {4200, 70},
           .documents = {},
           .gate_size = size});
    check({.decay = decay,
           .segments = {100, 4200},
           .documents = {0, 30, 99, 164, 2700, 2701, 4299, 4300},
           .gate_size = size});
  }
}

TEST(Segment, DocumentsResetAnywhere) {
  for (const Decay decay : kDecays) {
    // At a segment's start (70), at a chunk's start (134), one before and
    // after, and twice in a row.
    check({.decay = decay,
           .segments = {70, 70},
           .documents = {0, 5, 6, 63, 70, 133, 134, 140}});
    check({.decay = decay, .segments = {70, 70}, .documents = {0, 71, 140}});
    check({.decay = decay, .segments = {130}, .documents = {0, 64, 130}});
    check({.decay = decay, .segments = {130}, .documents = {0, 130}});
  }
}

TEST(Segment, ExtremeGates) {
  for (const Decay decay : {Decay::per_head, Decay::per_key}) {
    for (const double size : {0.0, 1e-9, 30.0, 1e4}) {
      check({.decay = decay,
             .segments = {90, 41},
             .documents = {},
             .gate_size = size});
    }
  }
}

/// The gates of 100,000 tokens in fp32: their factors' product would be off by
/// 1e-5, and 0 in the second case.
TEST(Segment, DecaysOfLongSequencesKeepTheirPrecision) {
  constexpr std::int64_t kTokens = 100'000;
  for (const double size : {1e-4, 1e-2}) {
    at::Generator g = at::make_generator<at::CPUGeneratorImpl>(5);
    Inputs in;
    in.q = in.k = in.v = at::ones({1, kTokens, 1, 1}, at::kFloat);
    in.decay = Decay::per_head;
    in.gates =
        (-size * at::rand({1, kTokens, 1}, g, at::kDouble)).to(at::kFloat);
    const double want = in.gates.to(at::kDouble).sum().item<double>();
    const double got =
        ForwardSegment(in, {{0, kTokens}, {}}).decay().item<double>();
    EXPECT_NEAR(got / want, 1, 3e-7);
    EXPECT_EQ(ForwardSegment(in, {{0, kTokens}, {77}}).decay().item<double>(),
              -std::numeric_limits<double>::infinity());
  }
}

TEST(Segment, Unmasked) {
  check({.segments = {70, 3, 64}, .documents = {}, .causal = false});
}

TEST(Segment, SinglePrecision) {
  for (const Decay decay : kDecays) {
    check({.decay = decay,
           .segments = {90, 60},
           .documents = {0, 40, 150},
           .type = at::kFloat},
          2e-6);
  }
}

/// exp(-inf) has no gradient that autograd can compute; the outputs, and that
/// gates of -inf have gradient zero and all others are as without autograd's
/// NaN, can be checked: a gate of -inf acts as one of -1e4.
TEST(Segment, InfiniteGates) {
  for (const Decay decay : {Decay::per_head, Decay::per_key}) {
    const Case c{
        .decay = decay, .segments = {90, 41}, .documents = {}, .infinite = 0.2};
    Problem p = make_problem(c, 3);
    const Everything got = by_segments(p, c, true);
    const at::Tensor infinite = p.inputs.gates.isinf();
    EXPECT_GT(infinite.sum().item<double>(), 10);
    EXPECT_EQ(got.dgates.masked_select(infinite).abs().max().item<double>(), 0);
    p.inputs.gates.clamp_min_(-1e4);
    expect_close(got, by_recurrence(p), 1e-10);
  }
}

}  // namespace
}  // namespace ringweave::linear_attention
