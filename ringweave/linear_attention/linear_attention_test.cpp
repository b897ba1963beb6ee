#include "ringweave/linear_attention/linear_attention.h"

#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/linear_attention/problems.h"

namespace ringweave::linear_attention {
namespace {

/// Ranks are threads: torch's own would only get in their way.
class OneThreadPerRank : public testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
const testing::Environment* const kOneThreadPerRank =
    testing::AddGlobalTestEnvironment(new OneThreadPerRank);

TEST(LinearAttention, WithoutStates) { sweep(61, Mask::causal(), false); }

TEST(LinearAttention, InitialAndFinalState) { sweep(53, Mask::causal(), true); }

TEST(LinearAttention, AnInitialStateInAnyOrderOfMemory) {
  Problem p = make_problem(Decay::per_key, 40, Mask::causal(), true);
  const Everything want = by_recurrence(p);
  p.state = p.state.transpose(2, 3).contiguous().transpose(2, 3);
  for (const std::string& exchange : kExchanges) {
    check(p, want, uneven(40, 3), exchange);
    check(p, want, with_empty_shards(40, 4), exchange);
  }
}

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
        for (const char* exchange :
             {"chain", "pipelined_chain:5", "sharded_scan", "log_step",
              "all_gather"}) {
          check(p, want, layout, exchange);
        }
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

/// Query heads that share a state, states that share keys, values or gates, and
/// queries that share a state head's.
TEST(LinearAttention, SharedHeads) {
  for (const Heads heads :
       {Heads{4, 2, 2, 2}, Heads{6, 1, 1, 1}, Heads{4, 2, 2, 4},
        Heads{1, 1, 4, 4}, Heads{6, 2, 3, 1}, Heads{2, 4, 1, 2}}) {
    for (const Decay decay : kDecays) {
      SCOPED_TRACE(fmt::format("heads {} {} {} {}", heads.q, heads.k, heads.v,
                               heads.gates));
      const Problem p =
          make_problem(decay, 149, Mask::causal().with_documents({0, 70, 149}),
                       true, at::kDouble, 0.3, heads);
      const Everything want = by_recurrence(p);
      check(p, want, Layout::contiguous(149, 1), "chain");
      check(p, want, Layout::zigzag(149, 2), "chain");
      check(p, want, uneven(149, 3), "all_gather");
      check(p, want, scattered(149, 3), "all_gather:multi_ring");
    }
    const Problem p = make_problem(Decay::none, 43, Mask::full(), true,
                                   at::kDouble, 0.3, heads);
    check(p, by_recurrence(p), Layout::zigzag(43, 3), "all_gather");
  }
}

/// Six query heads over two of keys and values send a third of the bytes.
TEST(LinearAttention, SharedStatesAreSentOnce) {
  for (const Decay decay : {Decay::none, Decay::per_key}) {
    const auto planned = [&](Heads heads) {
      const Problem p = make_problem(decay, 40, Mask::causal(), false,
                                     at::kDouble, 0.3, heads);
      const auto plan = make_linear_plan(
          {schedule::state_exchange_from_name("all_gather:multi_ring"),
           Layout::zigzag(40, 4), p.mask},
          1);
      std::int64_t sum = 0;
      for (const auto& [to, bytes] :
           planned_bytes(*plan, decay, p.q, p.k, p.v, p.gates, true)) {
        sum += bytes;
      }
      return sum;
    };
    EXPECT_EQ(3 * planned({6, 2, 2, 2}), planned({6, 6, 6, 6}));
  }
}

TEST(LinearAttention, FewerTokensThanRanks) {
  for (const Decay decay : kDecays) {
    for (const std::int64_t tokens : {1, 2, 5}) {
      const Problem p = make_problem(decay, tokens, Mask::causal(), true);
      const Everything want = by_recurrence(p);
      for (const std::string& exchange : kExchanges) {
        check(p, want, Layout::contiguous(tokens, 7), exchange);
        check(p, want, Layout::zigzag(tokens, 4), exchange);
      }
    }
  }
}

TEST(LinearAttention, ADocumentPerToken) {
  for (const Decay decay : kDecays) {
    const Problem p = make_problem(
        decay, 3, Mask::causal().with_documents({0, 1, 2, 3}), true);
    const Everything want = by_recurrence(p);
    for (const std::string& exchange : kExchanges) {
      for (const int ranks : {1, 3}) {
        check(p, want, Layout::contiguous(3, ranks), exchange);
      }
    }
  }
}

TEST(LinearAttention, NoTokens) {
  for (const int ranks : {1, 3}) {
    for (const std::string& exchange : kExchanges) {
      const Problem p = make_problem(Decay::per_key, 0, Mask::causal(), true);
      check(p, {p.v, p.state, p.q, p.k, p.v, p.gates, p.dfinal},
            Layout::contiguous(0, ranks), exchange);
    }
  }
}

TEST(LinearAttention, Unmasked) {
  for (const bool states : {false, true}) {
    const Problem p = make_problem(Decay::none, 43, Mask::full(), states);
    const Everything want = by_recurrence(p);
    for (const std::string& exchange : kExchanges) {
      for (const int ranks : kRanks) {
        for (const Layout& layout : layouts(43, ranks)) {
          check(p, want, layout, exchange);
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
    for (const std::string& exchange : kExchanges) {
      for (const int ranks : {2, 5}) {
        check(p, want, Layout::zigzag(40, ranks), exchange, kExact,
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
    for (const std::string& exchange : kExchanges) {
      check(p, want, Layout::contiguous(45, 3), exchange);
    }
  }
}

/// fp32 within 2e-6 of the largest value, bf16 inputs and outputs within 1e-2,
/// fp16 within 1.25e-3: they have 8 and 11 bits, and each output is rounded
/// once.
TEST(LinearAttention, SmallerTypes) {
  for (const Decay decay : kDecays) {
    for (const auto& [type, tolerance] :
         {std::pair{at::kFloat, 2e-6}, std::pair{at::kBFloat16, 1e-2},
          std::pair{at::kHalf, 1.25e-3}}) {
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
  const std::string exchange = "chain";
  const Everything got = by_ranks(narrow, layout, exchange);
  const Everything want = by_ranks(p, layout, exchange);
  EXPECT_EQ(got.out.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(got.out, want.out.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(got.dk, want.dk.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(got.dgates, want.dgates));
}

/// Bytes sent by each rank, forward and backward, fp64, contiguous: a state is
/// 2 · 2 · 3 · 5 numbers, a decay of per_key 2 · 2 · 3.
TEST(LinearAttention, BytesSent) {
  constexpr std::int64_t kState = 60 * 8, kDecay = 12 * 8;
  const auto sent = [](const std::string& exchange) {
    std::vector<std::int64_t> bytes(4);
    const Problem p = make_problem(Decay::per_key, 40, Mask::causal(), false);
    comm::run_ranks(4, [&](Rank rank, std::shared_ptr<comm::Transport> t) {
      Communicator communicator(std::move(t));
      on_rank(p, Layout::contiguous(40, 4), exchange, communicator);
      bytes[rank] = communicator.traffic().bytes();
    });
    return bytes;
  };
  EXPECT_THAT(sent("chain"),
              testing::ElementsAre(kState, 2 * kState, 2 * kState, kState));
  // A quarter of each summary but the last to 3 ranks, with its decay but for
  // the first; then a quarter of the state before it to each rank but the
  // first.
  EXPECT_THAT(
      sent("sharded_scan"),
      testing::ElementsAre(8 * kState / 4, (10 * kState + 3 * kDecay) / 4,
                           (10 * kState + 3 * kDecay) / 4, 8 * kState / 4));
  // To the next rank, then to the one after it; and back. A decay goes with
  // what does not reach back to the first segment.
  EXPECT_THAT(sent("log_step"),
              testing::ElementsAre(2 * kState, 3 * kState + 2 * kDecay,
                                   3 * kState + 2 * kDecay, 2 * kState));
  // Every decay goes to 3 ranks; updates to the ranks above, then below.
  EXPECT_THAT(sent("all_gather"), testing::Each(3 * kDecay + 3 * kState));
}

/// Whatever brings the states, they are summed in the same order, but by
/// log_step.
TEST(LinearAttention, AllExchangesButOneGiveEqualBits) {
  for (const Decay decay : {Decay::constant, Decay::per_key}) {
    const Problem p =
        make_problem(decay, 50, Mask::causal().with_documents({0, 31, 50}),
                     true, at::kFloat);
    const Layout layout = Layout::zigzag(50, 4);
    const Everything want = by_ranks(p, layout, "all_gather");
    for (const std::string& exchange : kExchanges) {
      if (exchange == "log_step") continue;
      SCOPED_TRACE(exchange);
      const Everything got = by_ranks(p, layout, exchange);
      EXPECT_TRUE(at::equal(got.out, want.out));
      EXPECT_TRUE(at::equal(got.final_state, want.final_state));
      EXPECT_TRUE(at::equal(got.dq, want.dq));
      EXPECT_TRUE(at::equal(got.dk, want.dk));
      EXPECT_TRUE(at::equal(got.dv, want.dv));
      EXPECT_TRUE(at::equal(got.dgates, want.dgates));
      EXPECT_TRUE(at::equal(got.dstate, want.dstate));
    }
  }
}

TEST(LinearAttention, BytesSentAreThePlanned) {
  for (const Decay decay : kDecays) {
    const Problem p = make_problem(decay, 41, Mask::causal(), false);
    for (const std::string& exchange : kExchanges) {
      for (const Layout& layout : layouts(41, 4)) {
        comm::run_ranks(4, [&](Rank rank, std::shared_ptr<comm::Transport> t) {
          Communicator communicator(std::move(t));
          on_rank(p, layout, exchange, communicator);
          std::map<Rank, std::int64_t> sent;
          for (const auto& [to, link] : communicator.traffic().sent) {
            sent[to] = link.bytes;
          }
          const auto plan = make_linear_plan(
              {schedule::state_exchange_from_name(exchange), layout, p.mask},
              rank);
          EXPECT_EQ(sent,
                    planned_bytes(*plan, decay, p.q, p.k, p.v, p.gates, true))
              << exchange << " " << layout.to_json().dump();
        });
      }
    }
  }
}

/// Gradients of one input at a time, as when the others are frozen.
TEST(LinearAttention, GradientsOfSomeInputsAreThoseOfAll) {
  for (const Decay decay : kDecays) {
    const Problem p = make_problem(decay, 30, Mask::causal(), true);
    const Everything want = by_recurrence(p);
    const at::Tensor inputs[] = {p.q, p.k, p.v, p.gates, p.state};
    const at::Tensor gradients[] = {want.dq, want.dk, want.dv, want.dgates,
                                    want.dstate};
    for (int wanted = 0; wanted < 5; ++wanted) {
      if (!inputs[wanted].defined()) continue;
      comm::run_ranks(1, [&](Rank, std::shared_ptr<comm::Transport> t) {
        Communicator communicator(std::move(t));
        std::vector<at::Tensor> x(inputs, inputs + 5);
        x[wanted] = leaf(x[wanted]);
        const auto plan =
            make_linear_plan({schedule::state_exchange_from_name("chain"),
                              Layout::contiguous(30, 1), p.mask},
                             0);
        const LinearResult result = linear_attention(
            x[0], x[1], x[2], decay, x[3], x[4], plan, communicator,
            {.scale = kScale, .final_state = true});
        at::Tensor loss =
            (result.out * p.dout).sum() + (result.final_state * p.dfinal).sum();
        loss.backward();
        EXPECT_TRUE(close(x[wanted].grad(), gradients[wanted], kExact))
            << "decay " << static_cast<int>(decay) << ", input " << wanted;
      });
    }
  }
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
        {schedule::state_exchange_from_name("all_gather"), layout, p.mask},
        rank);
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

TEST(LinearAttention, ASecondBackwardOfOneCallGivesTheSame) {
  const Layout layout = Layout::zigzag(41, 3);
  for (const std::string& exchange : kExchanges) {
    SCOPED_TRACE(exchange);
    const auto plan_of = [&](Rank rank) {
      return make_linear_plan({schedule::state_exchange_from_name(exchange),
                               layout, Mask::causal()},
                              rank);
    };
    comm::run_ranks(3, [&](Rank rank, std::shared_ptr<comm::Transport> t) {
      comm::Communicator communicator(std::move(t));
      const auto plan = plan_of(rank);
      const at::Tensor x =
          at::randn({1, layout.shard_tokens(rank), 2, 3}, at::kDouble)
              .set_requires_grad(true);
      const at::Tensor gates = at::full({1, x.size(1), 2}, -0.3, at::kDouble)
                                   .set_requires_grad(true);
      const auto layer = [&](const at::Tensor& q) {
        return linear_attention(q, x, x, Decay::per_head, gates, {}, plan,
                                communicator)
            .out;
      };
      // The second layer uses the same memory.
      const at::Tensor out = layer(layer(x)).sum();
      const auto gradients = [&](bool retain_graph) {
        return torch::autograd::grad({out}, {x, gates}, {}, retain_graph);
      };
      const auto once = gradients(true);
      const auto again = gradients(false);
      EXPECT_TRUE(at::equal(again[0], once[0]));
      EXPECT_TRUE(at::equal(again[1], once[1]));
    });
  }
}

}  // namespace
}  // namespace ringweave::linear_attention
