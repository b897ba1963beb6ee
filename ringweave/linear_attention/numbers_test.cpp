// What fp32 has to get right: small elements beside large ones, long sums, NaN.
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include "ringweave/linear_attention/problems.h"

namespace ringweave::linear_attention {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// |got - want| / |want|; 0 / 0 is 0.
double relative_error(const at::Tensor& got, const at::Tensor& want) {
  const double error = (got.to(at::kDouble) - want).norm().item<double>();
  return error == 0 ? 0 : error / want.norm().item<double>();
}

/// A class of tokens, whose error is measured against their own size.
struct TokenClass {
  const char* name;
  at::Tensor tokens;  // (tokens), bool
};

/// Gates of one token after the other, the same for all heads and keys.
struct GatePattern {
  std::string name;
  at::Tensor gates;  // (tokens)
};

std::vector<GatePattern> gate_patterns(std::int64_t tokens) {
  std::vector<GatePattern> result;
  for (const double g : {-0.01, -1.0, -5.0, -10.0, -20.0, -40.0}) {
    result.push_back({fmt::format("all {}", g), at::full({tokens}, g)});
  }
  at::Tensor gates = at::full({tokens}, -0.01);
  gates.slice(0, 5, std::nullopt, 37).fill_(-40);
  result.push_back({"some saturated", gates});
  gates = at::full({tokens}, -20.0);
  gates.slice(0, 5, std::nullopt, 37).fill_(-0.01);
  result.push_back({"some mild", gates});
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(3);
  result.push_back({"mixed", -at::pow(10, at::empty({tokens}).uniform_(
                                              -2, 1.6, generator))});
  return result;
}

std::vector<TokenClass> classes(const at::Tensor& gates, const Mask& mask) {
  at::Tensor first = at::zeros(gates.sizes(), at::kBool);
  for (const std::int64_t start : mask.document_offsets()) {
    if (start < gates.size(0)) first[start] = true;
  }
  first[0] = true;
  const auto within = [&](double low, double high) {
    return (gates >= low) & (gates < high) & ~first;
  };
  return {{"mild", within(-0.1, 0)},
          {"middle", within(-4, -0.1)},
          {"strong", within(-12, -4)},
          {"saturated", within(-50, -12)},
          {"first", first}};
}

Problem gate_problem(Decay decay, const GatePattern& pattern, const Mask& mask,
                     at::ScalarType type) {
  Problem p = make_problem(decay, pattern.gates.size(0), mask, false, type);
  p.gates.copy_(decay == Decay::constant
                    ? pattern.gates.slice(0, 0, p.gates.size(0))
                    : pattern.gates.view(decay == Decay::per_head
                                             ? at::IntArrayRef{-1, 1}
                                             : at::IntArrayRef{-1, 1, 1}));
  return p;
}

/// Against a recurrence in fp64 on the same rounded inputs.
TEST(Numbers, GateGradients) {
  constexpr std::int64_t kTokens = 299;
  const Mask packed =
      Mask::causal().with_documents({0, 1, 40, 64, 150, 151, 152, 299});
  for (const GatePattern& pattern : gate_patterns(kTokens)) {
    for (const Decay decay : {Decay::per_head, Decay::per_key}) {
      for (const Mask& mask : {Mask::causal(), packed}) {
        for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
          const Problem p = gate_problem(decay, pattern, mask, type);
          const at::Tensor want = by_recurrence(p).dgates;
          for (const int ranks : {1, 3}) {
            const at::Tensor got =
                by_ranks(p, Layout::zigzag(kTokens, ranks), "all_gather")
                    .dgates;
            for (const TokenClass& c : classes(pattern.gates, mask)) {
              const at::Tensor index = c.tokens.nonzero().squeeze(1);
              EXPECT_LE(relative_error(got.index_select(1, index),
                                       want.index_select(1, index)),
                        1e-5)
                  << pattern.name << ", " << c.name << " tokens, decay "
                  << schedule::name(decay) << ", " << ranks << " ranks, "
                  << at::toString(type) << ", " << mask.text();
            }
          }
        }
      }
    }
  }
}

/// Of a constant decay it is one sum of terms that may cancel; so its error is
/// measured against the sum of their sizes.
TEST(Numbers, GateGradientsOfAConstantDecay) {
  constexpr std::int64_t kTokens = 299;
  const Mask packed = Mask::causal().with_documents({0, 1, 64, 150, 299});
  for (const GatePattern& pattern : gate_patterns(kTokens)) {
    if (pattern.name.substr(0, 3) != "all") continue;
    for (const Mask& mask : {Mask::causal(), packed}) {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        const Problem p = gate_problem(Decay::constant, pattern, mask, type);
        Problem same = gate_problem(Decay::per_head, pattern, mask, type);
        same.q = p.q, same.k = p.k, same.v = p.v, same.dout = p.dout;
        const at::Tensor want = by_recurrence(same).dgates;
        for (const int ranks : {1, 3}) {
          const at::Tensor got =
              by_ranks(p, Layout::zigzag(kTokens, ranks), "all_gather").dgates;
          const at::Tensor error =
              (got - want.sum(at::IntArrayRef{0, 1})).abs();
          EXPECT_TRUE(
              at::all(error <= 1e-5 * want.abs().sum(at::IntArrayRef{0, 1}))
                  .item<bool>())
              << pattern.name << ", " << ranks << " ranks, "
              << at::toString(type) << ", " << mask.text();
        }
      }
    }
  }
}

/// What is left of token 0 at token t is exp(t · g).
TEST(Numbers, TinyDecaysOverManyTokens) {
  constexpr std::int64_t kTokens = 262'144;
  for (const Decay decay : {Decay::constant, Decay::per_head, Decay::per_key}) {
    for (const double g : {-3e-8, -1e-4}) {
      Problem p{decay, kTokens, Mask::causal(), true, at::kFloat};
      p.q = at::ones({1, kTokens, 1, 1});
      p.v = p.q, p.dout = at::zeros_like(p.q);
      p.k = at::zeros_like(p.q);
      p.k[0][0] = 1;
      p.gates = at::full({1}, g);
      if (decay == Decay::per_head) p.gates = at::full({1, kTokens, 1}, g);
      if (decay == Decay::per_key) p.gates = at::full({1, kTokens, 1, 1}, g);
      p.state = at::zeros({1, 1, 1, 1});
      p.dfinal = at::ones({1, 1, 1, 1});
      const auto log = static_cast<double>(static_cast<float>(g));
      const at::Tensor left =
          (at::arange(kTokens, at::kDouble) * log).exp().view({1, -1, 1, 1});
      for (const int ranks : {1, 3, 8}) {
        SCOPED_TRACE(fmt::format("decay {}, g {}, {} ranks",
                                 schedule::name(decay), g, ranks));
        const Everything got =
            by_ranks(p, Layout::zigzag(kTokens, ranks),
                     ranks == 3 ? "pipelined_chain" : "all_gather");
        const auto worst = [](const at::Tensor& x, const at::Tensor& want) {
          return (x.to(at::kDouble) / want - 1).abs().max().item<double>();
        };
        const at::Tensor end = left.narrow(1, kTokens - 1, 1);
        EXPECT_LE(worst(got.final_state, end), 1e-5);
        EXPECT_LE(worst(got.out, kScale * left), 1e-5);
        EXPECT_LE(worst(got.dstate, end * std::exp(log)), 1e-5);
        EXPECT_LE(worst(got.dv[0][0], end), 1e-5);
        if (decay == Decay::constant) continue;
        EXPECT_EQ(got.dgates[0][0].abs().max().item<double>(), 0);
        EXPECT_LE(worst(got.dgates.narrow(1, 1, kTokens - 1), end.view(-1)),
                  1e-5);
      }
    }
  }
}

/// Everything that ranks compute of a problem, but for the tokens of a
/// document, with states if they are of another document.
void expect_same_elsewhere(const Problem& p, const Everything& got,
                           const Everything& want, const Range& document) {
  const at::Tensor index =
      at::cat({at::arange(document.begin), at::arange(document.end, p.tokens)});
  const auto compare = [&](const at::Tensor& a, const at::Tensor& b,
                           const char* what) {
    EXPECT_TRUE(at::equal(a.index_select(1, index), b.index_select(1, index)))
        << what;
  };
  compare(got.out, want.out, "out");
  compare(got.dq, want.dq, "dq");
  compare(got.dk, want.dk, "dk");
  compare(got.dv, want.dv, "dv");
  if (p.gates.defined() && p.gates.dim() > 1) {
    compare(got.dgates, want.dgates, "dgates");
  }
  if (document.end < p.tokens) {
    EXPECT_TRUE(at::equal(got.final_state, want.final_state)) << "final";
  }
  if (document.begin > 0) {
    EXPECT_TRUE(at::equal(got.dstate, want.dstate)) << "dstate";
  }
}

struct Poison {
  std::vector<std::int64_t> offsets;
  std::vector<Decay> decays;
  std::vector<int> inputs;  ///< of q, k, v, dout, gates
};

/// Makes a token of every document bad, one after the other. The largest number
/// overflows to inf where two are multiplied.
void check_documents_apart(const Poison& poison) {
  const std::vector<std::int64_t>& offsets = poison.offsets;
  const std::int64_t tokens = offsets.back();
  const Mask mask = Mask::causal().with_documents(offsets);
  const double bad[] = {std::nan(""), kInfinity, -kInfinity, 3e38};
  int turn = 0;
  std::size_t way = 0;
  for (const Decay decay : poison.decays) {
    const Problem clean =
        make_problem(decay, tokens, mask, true, at::kFloat, 1e-2);
    for (const int ranks : {1, 3}) {
      const Layout layout = Layout::zigzag(tokens, ranks);
      const std::string exchange =
          ranks == 1 ? "chain" : kExchanges[way++ % kExchanges.size()];
      const Everything want = by_ranks(clean, layout, exchange);
      for (std::size_t d = 0; d + 1 < offsets.size(); ++d) {
        const Range document{offsets[d], offsets[d + 1]};
        const std::int64_t token = (document.begin + document.end) / 2;
        for (const int input : poison.inputs) {
          Problem p = clean;
          at::Tensor* of[] = {&p.q, &p.k, &p.v, &p.dout, &p.gates};
          at::Tensor& x = *of[input];
          if (!x.defined() || x.dim() == 1) continue;
          x = x.clone();
          // Gates are finite or NaN: others are refused, or a reset.
          x.select(1, token).fill_(input == 4 ? bad[0] : bad[turn++ % 4]);
          SCOPED_TRACE(fmt::format(
              "decay {}, {} ranks, {}, document {}, input {}, value {}",
              schedule::name(decay), ranks, exchange, d, input,
              x.select(1, token).flatten()[0].item<double>()));
          expect_same_elsewhere(p, by_ranks(p, layout, exchange), want,
                                document);
        }
      }
      Problem p = clean;
      p.state = at::full_like(p.state, bad[0]);
      expect_same_elsewhere(p, by_ranks(p, layout, exchange), want,
                            {0, offsets[1]});
      p = clean;
      p.dfinal = at::full_like(p.dfinal, bad[0]);
      expect_same_elsewhere(p, by_ranks(p, layout, exchange), want,
                            {offsets.end()[-2], tokens});
    }
  }
}

TEST(Numbers, WhatIsNotFiniteStaysInItsDocument) {
  check_documents_apart({.offsets = {0, 3, 70, 75, 128, 192, 193, 260, 300},
                         .decays = {std::begin(kDecays), std::end(kDecays)},
                         .inputs = {0, 1, 2, 3, 4}});
}

/// Documents start in some stretches of chunks, and cover others.
TEST(Numbers, WhatIsNotFiniteStaysInItsLongDocument) {
  check_documents_apart(
      {.offsets = {0, 100, 2300, 2301, 7000, 11'000},
       .decays = {Decay::none, Decay::constant, Decay::per_key},
       .inputs = {2, 3, 4}});
}

/// Whether a hook that runs where autograd unpacks what it saved could record
/// operations: checkpointing runs the forward pass again there.
struct Recording : torch::autograd::SavedVariableHooks {
  void call_pack_hook(const at::Tensor& tensor) override { kept = tensor; }
  at::Tensor call_unpack_hook() override {
    const at::AutoGradMode enabled(true);
    const at::Tensor x = leaf(at::ones({1}));
    ++((x * 2).requires_grad() ? recorded : unrecorded);
    return kept;
  }
  at::Tensor kept;
  static inline int recorded = 0, unrecorded = 0;
};

class HookedEngine : public torch::autograd::Engine {
 public:
  std::unique_ptr<torch::autograd::SavedVariableHooks>
  get_default_saved_variable_hooks() override {
    return hooked ? std::make_unique<Recording>() : nullptr;
  }
  static inline thread_local bool hooked = false;
};

torch::autograd::Engine& hooked_engine() {
  static HookedEngine engine;
  return engine;
}

TEST(Numbers, WhatWasSavedIsUnpackedWhereAutogradRecords) {
  torch::autograd::set_default_engine_stub(hooked_engine);
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> t) {
    Communicator communicator(std::move(t));
    const at::Tensor q = leaf(at::ones({1, 4, 2, 3}));
    const auto plan = make_linear_plan(
        {schedule::state_exchange_from_name("chain"), Layout::contiguous(4, 1)},
        0);
    HookedEngine::hooked = true;
    const at::Tensor out =
        linear_attention(q, q, q, Decay::none, {}, {}, plan, communicator).out;
    HookedEngine::hooked = false;
    out.sum().backward();
  });
  EXPECT_GT(Recording::recorded, 0);
  EXPECT_EQ(Recording::unrecorded, 0);
}

}  // namespace
}  // namespace ringweave::linear_attention
