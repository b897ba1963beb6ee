#include "ringweave/linear_attention/linear_attention.h"

#include <limits>
#include <map>
#include <tuple>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_transport.h"
#include "ringweave/linear_attention/reference.h"

namespace ringweave::linear_attention {
namespace {

using comm::Communicator;
using plan::Layout;
using plan::Mask;
using reference::close;
using reference::leaf;

constexpr std::int64_t kBatch = 2;
constexpr std::int64_t kHeads = 2;
constexpr std::int64_t kKey = 3;
constexpr std::int64_t kValue = 5;
constexpr double kScale = 0.7;
constexpr double kExact = 1e-10;
constexpr Decay kDecays[] = {Decay::none, Decay::constant, Decay::per_head,
                             Decay::per_key};
constexpr int kRanks[] = {1, 2, 3, 4, 5, 7, 8};
const std::vector<std::string> kTransports = {
    "chain", "all_gather", "all_gather:ring", "all_gather:multi_ring",
    "all_gather:direct"};

/// Ranks are threads: torch's own would only get in their way.
class OneThreadPerRank : public testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
const testing::Environment* const kOneThreadPerRank =
    testing::AddGlobalTestEnvironment(new OneThreadPerRank);

/// What is computed, whatever the ranks.
struct Problem {
  Decay decay = Decay::none;
  std::int64_t tokens = 0;
  Mask mask = Mask::causal();
  bool states = false;  ///< initial and final state
  at::ScalarType type = at::kDouble;
  double gate_size = 0.3;
  at::Tensor q = {}, k = {}, v = {}, gates = {};
  at::Tensor state = {}, dout = {}, dfinal = {};
};

Problem make_problem(Decay decay, std::int64_t tokens, Mask mask, bool states,
                     at::ScalarType type = at::kDouble,
                     double gate_size = 0.3) {
  at::Generator g = at::make_generator<at::CPUGeneratorImpl>(tokens + 1);
  const auto normal = [&](std::vector<std::int64_t> shape) {
    return at::randn(shape, g, at::kDouble);
  };
  Problem p{decay, tokens, std::move(mask), states, type, gate_size};
  const at::ScalarType state_type = type == at::kDouble ? type : at::kFloat;
  p.q = normal({kBatch, tokens, kHeads, kKey}).to(type);
  p.k = normal({kBatch, tokens, kHeads, kKey}).to(type);
  p.v = normal({kBatch, tokens, kHeads, kValue}).to(type);
  const auto gates = [&](std::vector<std::int64_t> shape) {
    return (-gate_size * normal(shape).abs()).to(state_type);
  };
  if (decay == Decay::constant) p.gates = gates({kHeads});
  if (decay == Decay::per_head) p.gates = gates({kBatch, tokens, kHeads});
  if (decay == Decay::per_key) p.gates = gates({kBatch, tokens, kHeads, kKey});
  p.dout = normal({kBatch, tokens, kHeads, kValue}).to(type);
  if (states) {
    p.state = normal({kBatch, kHeads, kKey, kValue}).to(state_type);
    p.dfinal = normal({kBatch, kHeads, kKey, kValue}).to(state_type);
  }
  return p;
}

struct Everything {
  at::Tensor out, final_state, dq, dk, dv, dgates, dstate;
};

at::Tensor wide(const at::Tensor& x) {
  return x.defined() ? x.to(at::kDouble) : x;
}

Everything by_recurrence(const Problem& p) {
  const at::Tensor q = leaf(wide(p.q)), k = leaf(wide(p.k)),
                   v = leaf(wide(p.v)), gates = leaf(wide(p.gates)),
                   state = leaf(wide(p.state));
  const reference::Result result =
      reference::recurrence(q, k, v, p.decay, gates, state, p.mask, kScale);
  at::Tensor loss = (result.out * p.dout).sum();
  if (p.states) loss = loss + (result.final_state * p.dfinal).sum();
  loss.backward();
  return {result.out,
          result.final_state,
          q.grad(),
          k.grad(),
          v.grad(),
          gates.defined() ? gates.grad() : gates,
          state.defined() ? state.grad() : state};
}

at::Tensor positions(const Layout& layout, Rank rank) {
  return at::tensor(layout.positions(rank), at::kLong);
}

/// What one rank returns, with dstate, dgates of constant decay and final state
/// as they are on that rank.
Everything on_rank(const Problem& p, const Layout& layout,
                   const Transport& transport, Communicator& communicator) {
  const Rank rank = communicator.rank();
  const at::Tensor index = positions(layout, rank);
  const auto shard = [&](const at::Tensor& x) {
    return leaf(x.index_select(1, index));
  };
  const bool by_token = p.gates.defined() && p.gates.dim() > 1;
  const at::Tensor q = shard(p.q), k = shard(p.k), v = shard(p.v),
                   gates = by_token ? shard(p.gates) : leaf(p.gates),
                   state = leaf(p.state);
  const auto plan = make_linear_plan({transport, layout, p.mask}, rank);
  const LinearResult result =
      linear_attention(q, k, v, p.decay, gates, state, plan, communicator,
                       {.scale = kScale, .final_state = p.states});
  at::Tensor loss = (result.out * p.dout.index_select(1, index)).sum();
  if (p.states) {
    // Each rank contributes part of the gradient of the final state.
    const int n = communicator.size();
    const double share = 2.0 * (rank + 1) / (n * (n + 1));
    loss = loss + (result.final_state * p.dfinal).sum() * share;
  }
  loss.backward();
  return {result.out.detach(),
          p.states ? result.final_state.detach() : at::Tensor(),
          q.grad(),
          k.grad(),
          v.grad(),
          gates.defined() ? gates.grad() : gates,
          state.defined() ? state.grad() : state};
}

/// Joins the ranks' results; final states must be equal bit for bit.
Everything join(const Problem& p, const Layout& layout,
                const std::vector<Everything>& parts) {
  Everything all{at::zeros_like(p.v),
                 {},
                 at::zeros_like(p.q),
                 at::zeros_like(p.k),
                 at::zeros_like(p.v),
                 {},
                 {}};
  const bool by_token = p.gates.defined() && p.gates.dim() > 1;
  if (p.gates.defined()) all.dgates = at::zeros_like(p.gates);
  if (p.states) all.dstate = at::zeros_like(p.state);
  for (Rank r = 0; r < layout.ranks(); ++r) {
    const at::Tensor index = positions(layout, r);
    all.out.index_copy_(1, index, parts[r].out);
    all.dq.index_copy_(1, index, parts[r].dq);
    all.dk.index_copy_(1, index, parts[r].dk);
    all.dv.index_copy_(1, index, parts[r].dv);
    if (by_token) {
      all.dgates.index_copy_(1, index, parts[r].dgates);
    } else if (p.gates.defined()) {
      all.dgates.add_(parts[r].dgates);
    }
    if (p.states) {
      all.dstate.add_(parts[r].dstate);
      EXPECT_TRUE(at::equal(parts[r].final_state, parts[0].final_state));
    }
  }
  all.final_state = parts[0].final_state;
  return all;
}

Everything by_ranks(const Problem& p, const Layout& layout,
                    const Transport& transport,
                    comm::FaultInjection faults = {}) {
  std::vector<Everything> parts(layout.ranks());
  comm::run_ranks(
      layout.ranks(),
      [&](Rank rank, std::shared_ptr<comm::Transport> messages) {
        Communicator communicator(std::move(messages));
        parts[rank] = on_rank(p, layout, transport, communicator);
      },
      faults);
  return join(p, layout, parts);
}

void expect_close(const Everything& got, const Everything& want,
                  double tolerance) {
  EXPECT_TRUE(close(got.out, want.out, tolerance)) << "out";
  EXPECT_TRUE(close(got.dq, want.dq, tolerance)) << "dq";
  EXPECT_TRUE(close(got.dk, want.dk, tolerance)) << "dk";
  EXPECT_TRUE(close(got.dv, want.dv, tolerance)) << "dv";
  if (want.dgates.defined()) {
    EXPECT_TRUE(close(got.dgates, want.dgates, tolerance)) << "dgates";
  }
  if (want.dstate.defined()) {
    EXPECT_TRUE(close(got.final_state, want.final_state, tolerance)) << "final";
    EXPECT_TRUE(close(got.dstate, want.dstate, tolerance)) << "dstate";
  }
}

void check(const Problem& p, const Everything& want, const Layout& layout,
           const std::string& transport, double tolerance = kExact,
           comm::FaultInjection faults = {}) {
  SCOPED_TRACE(fmt::format("decay {}, {}, {} ranks, {} tokens, layout {}",
                           static_cast<int>(p.decay), transport, layout.ranks(),
                           layout.tokens(), layout.to_json().dump()));
  expect_close(by_ranks(p, layout, transport_from_name(transport), faults),
               want, tolerance);
}

/// Shards whose lengths differ much.
Layout uneven(std::int64_t tokens, int ranks) {
  std::vector<std::int64_t> lengths;
  std::int64_t rest = tokens;
  for (int r = 0; r + 1 < ranks; ++r) {
    lengths.push_back(rest * ((r * 5) % 7 + 1) / (2 * ranks + 3));
    rest -= lengths.back();
  }
  lengths.push_back(rest);
  return Layout::contiguous(lengths);
}

/// Only every second rank has tokens, and the first has none.
Layout with_empty_shards(std::int64_t tokens, int ranks) {
  if (ranks == 1) return Layout::contiguous(tokens, 1);
  std::vector<std::int64_t> lengths;
  for (int r = 0; r < ranks; ++r) {
    lengths.push_back(r % 2 == 0 ? 0
                                 : cut({0, tokens}, r / 2, ranks / 2).size());
  }
  return Layout::contiguous(lengths);
}

/// Every rank has several short runs.
Layout scattered(std::int64_t tokens, int ranks) {
  std::vector<std::vector<plan::Run>> runs(ranks);
  const int pieces = 3 * ranks - 1;
  for (int i = 0; i < pieces; ++i) {
    const Range piece = cut({0, tokens}, i, pieces);
    runs[(i * 5 + 1) % ranks].push_back({piece.begin, piece.size()});
  }
  return Layout::from_runs(tokens, runs);
}

std::vector<Layout> layouts(std::int64_t tokens, int ranks) {
  return {Layout::contiguous(tokens, ranks), Layout::zigzag(tokens, ranks),
          uneven(tokens, ranks), with_empty_shards(tokens, ranks),
          scattered(tokens, ranks)};
}

/// Every decay × transport × rank count, each with one of the layouts in turn.
void sweep(std::int64_t tokens, const Mask& mask, bool states) {
  int turn = 0;
  for (const Decay decay : kDecays) {
    const Problem p = make_problem(decay, tokens, mask, states);
    const Everything want = by_recurrence(p);
    for (const std::string& transport : kTransports) {
      for (const int ranks : kRanks) {
        const std::vector<Layout> all = layouts(tokens, ranks);
        check(p, want, all[turn++ % all.size()], transport);
      }
    }
  }
}

TEST(LinearAttention, WithoutStates) { sweep(61, Mask::causal(), false); }

TEST(LinearAttention, InitialAndFinalState) { sweep(53, Mask::causal(), true); }

TEST(LinearAttention, Documents) {
  sweep(43, Mask::causal().with_documents({0, 3, 17, 18, 19, 29, 43}), true);
}

TEST(LinearAttention, EveryLayout) {
  for (const Decay decay : kDecays) {
    const Problem p = make_problem(
        decay, 37, Mask::causal().with_documents({0, 9, 24, 37}), true);
    const Everything want = by_recurrence(p);
    for (const int ranks : {2, 5}) {
      for (const Layout& layout : layouts(37, ranks)) {
        check(p, want, layout, "chain");
        check(p, want, layout, "all_gather");
      }
    }
  }
}

TEST(LinearAttention, SeveralChunksPerSegment) {
  for (const Decay decay : kDecays) {
    for (const std::int64_t tokens : {128, 129, 255, 300}) {
      const Problem p = make_problem(decay, tokens, Mask::causal(), true);
      const Everything want = by_recurrence(p);
      check(p, want, Layout::contiguous(tokens, 2), "all_gather");
      check(p, want, Layout::zigzag(tokens, 2), "all_gather:ring");
      check(p, want, Layout::zigzag(tokens, 4),
            "all_gather:hierarchical:nodes=2,slices=3");
      check(p, want, uneven(tokens, 4), "all_gather:double_ring:nodes=2");
      check(p, want, uneven(tokens, 3), "chain");
    }
  }
}

TEST(LinearAttention, FewerTokensThanRanks) {
  for (const Decay decay : kDecays) {
    for (const std::int64_t tokens : {1, 2, 5}) {
      const Problem p = make_problem(decay, tokens, Mask::causal(), true);
      const Everything want = by_recurrence(p);
      for (const std::string& transport : kTransports) {
        check(p, want, Layout::contiguous(tokens, 7), transport);
        check(p, want, Layout::zigzag(tokens, 4), transport);
      }
    }
  }
}

TEST(LinearAttention, NoTokens) {
  for (const int ranks : {1, 3}) {
    for (const std::string& transport : kTransports) {
      const Problem p = make_problem(Decay::per_key, 0, Mask::causal(), true);
      check(p, {p.v, p.state, p.q, p.k, p.v, p.gates, p.dfinal},
            Layout::contiguous(0, ranks), transport);
    }
  }
}

TEST(LinearAttention, Unmasked) {
  for (const bool states : {false, true}) {
    const Problem p = make_problem(Decay::none, 43, Mask::full(), states);
    const Everything want = by_recurrence(p);
    for (const std::string& transport : kTransports) {
      for (const int ranks : kRanks) {
        for (const Layout& layout : layouts(43, ranks)) {
          check(p, want, layout, transport);
        }
      }
    }
  }
}

TEST(LinearAttention, RandomDelays) {
  int seed = 0;
  for (const Decay decay : kDecays) {
    const Problem p = make_problem(
        decay, 40, Mask::causal().with_documents({0, 31, 40}), true);
    const Everything want = by_recurrence(p);
    for (const std::string& transport : kTransports) {
      for (const int ranks : {2, 5}) {
        check(p, want, Layout::zigzag(40, ranks), transport, kExact,
              {.seed = static_cast<std::uint64_t>(++seed),
               .max_delay = std::chrono::microseconds(2000)});
      }
    }
  }
}

TEST(LinearAttention, GatesNearZeroAndFarBelow) {
  for (const Decay decay : {Decay::constant, Decay::per_head, Decay::per_key}) {
    for (const double size : {0.0, 1e-6, 20.0, 1e5}) {
      const Problem p =
          make_problem(decay, 45, Mask::causal(), true, at::kDouble, size);
      check(p, by_recurrence(p), Layout::zigzag(45, 3), "all_gather");
    }
  }
}

TEST(LinearAttention, InfiniteGatesReset) {
  for (const Decay decay : {Decay::per_head, Decay::per_key}) {
    Problem p = make_problem(decay, 45, Mask::causal(), true);
    for (const std::int64_t t : {0, 1, 7, 14, 15, 16, 30, 44}) {
      p.gates.select(1, t).select(1, t % 2).fill_(-1e5);
    }
    const Everything want = by_recurrence(p);
    p.gates.masked_fill_(p.gates == -1e5,
                         -std::numeric_limits<double>::infinity());
    for (const std::string& transport : kTransports) {
      check(p, want, Layout::contiguous(45, 3), transport);
    }
  }
}

/// fp32 within 2e-6 of the largest value, bf16 inputs and outputs within 1e-2:
/// a bf16 has 8 bits, and each output is rounded once.
TEST(LinearAttention, SmallerTypes) {
  for (const Decay decay : kDecays) {
    for (const auto& [type, tolerance] :
         {std::pair{at::kFloat, 2e-6}, std::pair{at::kBFloat16, 1e-2}}) {
      const Problem p = make_problem(
          decay, 150, Mask::causal().with_documents({0, 99, 150}), true, type);
      const Everything want = by_recurrence(p);
      check(p, want, Layout::zigzag(150, 3), "all_gather:multi_ring",
            tolerance);
      check(p, want, Layout::contiguous(150, 1), "chain", tolerance);
    }
  }
}

/// bf16 differs from fp32 on the same numbers by the rounding of its output
/// only.
TEST(LinearAttention, BFloat16IsRoundedOnce) {
  const Problem narrow =
      make_problem(Decay::per_key, 90, Mask::causal(), false, at::kBFloat16);
  Problem p = narrow;
  p.q = p.q.to(at::kFloat), p.k = p.k.to(at::kFloat), p.v = p.v.to(at::kFloat);
  p.dout = p.dout.to(at::kFloat);
  const Layout layout = Layout::contiguous(90, 2);
  const Transport transport = transport_from_name("chain");
  const Everything got = by_ranks(narrow, layout, transport);
  const Everything want = by_ranks(p, layout, transport);
  EXPECT_EQ(got.out.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(got.out, want.out.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(got.dk, want.dk.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(got.dgates, want.dgates));
}

/// Bytes sent by each rank, forward and backward, fp64, contiguous: a state is
/// 2 · 2 · 3 · 5 numbers, a decay of per_key 2 · 2 · 3.
TEST(LinearAttention, BytesSent) {
  constexpr std::int64_t kState = 60 * 8, kDecay = 12 * 8;
  const auto sent = [](const std::string& transport) {
    std::vector<std::int64_t> bytes(4);
    const Problem p = make_problem(Decay::per_key, 40, Mask::causal(), false);
    comm::run_ranks(4, [&](Rank rank, std::shared_ptr<comm::Transport> t) {
      Communicator communicator(std::move(t));
      on_rank(p, Layout::contiguous(40, 4), transport_from_name(transport),
              communicator);
      bytes[rank] = communicator.traffic().bytes();
    });
    return bytes;
  };
  EXPECT_THAT(sent("chain"),
              testing::ElementsAre(kState, 2 * kState, 2 * kState, kState));
  // Every decay goes to 3 ranks; updates to the ranks above, then below.
  EXPECT_THAT(sent("all_gather"), testing::Each(3 * kDecay + 3 * kState));
}

/// Two calls, one on the other's output: their backwards run in reverse order.
TEST(LinearAttention, ComposedCalls) {
  const Problem p = make_problem(Decay::per_head, 30, Mask::causal(), false);
  const at::Tensor whole = leaf(p.q);
  at::Tensor want = whole;
  for (int i = 0; i < 2; ++i) {
    want =
        reference::recurrence(want, p.k, want, p.decay, p.gates, {}, p.mask, 1)
            .out;
  }
  want.sum().backward();
  std::vector<at::Tensor> gradients(3);
  const Layout layout = Layout::zigzag(30, 3);
  comm::run_ranks(3, [&](Rank rank, std::shared_ptr<comm::Transport> t) {
    Communicator communicator(std::move(t));
    const at::Tensor index = positions(layout, rank);
    const at::Tensor q = leaf(p.q.index_select(1, index));
    const at::Tensor k = p.k.index_select(1, index);
    const at::Tensor gates = p.gates.index_select(1, index);
    const auto plan = make_linear_plan(
        {transport_from_name("all_gather"), layout, p.mask}, rank);
    at::Tensor out = q;
    for (int i = 0; i < 2; ++i) {
      out =
          linear_attention(out, k, out, p.decay, gates, {}, plan, communicator)
              .out;
    }
    out.sum().backward();
    gradients[rank] = q.grad();
  });
  for (Rank r = 0; r < 3; ++r) {
    EXPECT_TRUE(close(gradients[r],
                      whole.grad().index_select(1, positions(layout, r)),
                      kExact));
  }
}

TEST(Transport, NamesAreReadBack) {
  for (const std::string& text : kTransports) {
    EXPECT_EQ(name(transport_from_name(text)), text);
  }
  EXPECT_EQ(transport_from_name("chain").kind, Transport::Kind::chain);
  EXPECT_THROW(transport_from_name("ring"), InvalidArgument);
  EXPECT_THROW(transport_from_name("all_gather:rings"), InvalidArgument);
}

TEST(LinearPlan, RejectsWhatItCannotHonour) {
  const Transport chain = transport_from_name("chain");
  const Layout layout = Layout::contiguous(9, 3);
  const Mask causal = Mask::causal();
  EXPECT_THROW(make_linear_plan({chain, Layout::striped(9, 3), causal}, 0),
               InvalidArgument);
  EXPECT_THROW(make_linear_plan({chain, layout, causal}, 3), InvalidArgument);
  EXPECT_THROW(make_linear_plan({chain, layout, causal.with_window({3, 0})}, 0),
               InvalidArgument);
  EXPECT_THROW(
      make_linear_plan({chain, layout, Mask::full().with_documents({0, 9})}, 0),
      InvalidArgument);
  EXPECT_THROW(
      make_linear_plan({chain, layout, causal.with_documents({0, 8})}, 0),
      InvalidArgument);
}

/// Calls on one rank; every argument can be changed before.
struct Arguments {
  at::Tensor q = at::ones({1, 4, 2, 3}, at::kDouble);
  at::Tensor k = q.clone();
  at::Tensor v = at::ones({1, 4, 2, 5}, at::kDouble);
  Decay decay = Decay::none;
  at::Tensor gates, state;
  Mask mask = Mask::causal();
  int plan_ranks = 1;

  void call() const {
    comm::run_ranks(1, [&](Rank, std::shared_ptr<comm::Transport> t) {
      Communicator communicator(std::move(t));
      linear_attention(
          q, k, v, decay, gates, state,
          make_linear_plan({transport_from_name("chain"),
                            Layout::contiguous(4, plan_ranks), mask},
                           0),
          communicator);
    });
  }
};

void expect_error(const Arguments& arguments, const std::string& text) {
  try {
    arguments.call();
    ADD_FAILURE() << "no error; want one with: " << text;
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
  }
}

TEST(LinearAttention, RejectsBadArguments) {
  EXPECT_NO_THROW(Arguments{}.call());
  Arguments a;
  a.k = at::ones({1, 4, 2, 4}, at::kDouble);
  expect_error(a, "got k of shape (1, 4, 2, 4); want (1, 4, 2, 3)");
  a = {};
  a.v = a.v.to(at::kFloat);
  expect_error(a, "got v of type Float; want Double");
  a = {};
  a.q = a.k = at::ones({1, 5, 2, 3}, at::kDouble);
  expect_error(a, "got q of shape (1, 5, 2, 3); want (1, 4, 2, 3)");
  a = {};
  a.q = a.q.to(at::kLong);
  expect_error(a, "want Double, Float or BFloat16");
  a = {};
  a.q = at::ones({4, 2, 3}, at::kDouble);
  expect_error(a, "q of 3 dimensions");
  a = {};
  a.v = at::Tensor();
  expect_error(a, "v of 0 dimensions");
  a = {};
  a.q = a.k = at::ones({1, 4, 2, 0}, at::kDouble);
  expect_error(a, "want at least 1 of each");
  a = {};
  a.plan_ranks = 2;
  expect_error(a, "got the plan of rank 0 of 2");
}

TEST(LinearAttention, RejectsBadGatesAndStates) {
  Arguments a;
  a.decay = Decay::per_head;
  expect_error(a, "got no gates; want shape (1, 4, 2)");
  a.gates = at::zeros({1, 4, 2}, at::kFloat);
  expect_error(a, "got gates of type Float; want Double");
  a.decay = Decay::none;
  expect_error(a, "got gates with decay none");
  a.decay = Decay::constant;
  a.gates = at::full({2}, 0.1, at::kDouble);
  expect_error(a, "log above 0");
  a.gates = at::zeros({2}, at::kDouble);
  EXPECT_NO_THROW(a.call());
  a.mask = Mask::full();
  expect_error(a, "got a decay with a full mask");
  a = {};
  a.state = at::zeros({1, 2, 5, 3}, at::kDouble);
  expect_error(a, "got initial_state of shape (1, 2, 5, 3)");
  a.state = at::zeros({1, 2, 3, 5}, at::kFloat);
  expect_error(a, "got initial_state of type Float");
}

TEST(LinearAttention, SecondDerivativesAreAnError) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> t) {
    Communicator communicator(std::move(t));
    const at::Tensor q = leaf(at::ones({1, 4, 2, 3}, at::kDouble));
    const auto plan = make_linear_plan(
        {transport_from_name("chain"), Layout::contiguous(4, 1)}, 0);
    const at::Tensor out =
        linear_attention(q, q, q, Decay::none, {}, {}, plan, communicator).out;
    EXPECT_THROW(out.sum().backward({}, true, true), InvalidArgument);
  });
}

/// A rank that dies in the exchange: the others get a CommError, no hang.
TEST(LinearAttention, DeadPeerIsAnError) {
  const Problem p = make_problem(Decay::per_head, 30, Mask::causal(), false);
  for (const std::string& transport : kTransports) {
    const auto outcomes = comm::rank_outcomes(
        3,
        [&](Rank, std::shared_ptr<comm::Transport> t) {
          Communicator communicator(std::move(t));
          on_rank(p, Layout::contiguous(30, 3), transport_from_name(transport),
                  communicator);
        },
        {.kill = comm::FaultInjection::At{1, 0}});
    for (const Rank r : {0, 2}) {
      ASSERT_NE(outcomes[r], nullptr) << transport;
      EXPECT_THROW(std::rethrow_exception(outcomes[r]), CommError) << transport;
    }
  }
}

}  // namespace
}  // namespace ringweave::linear_attention
