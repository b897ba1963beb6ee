#include "ringweave/attention/attention.h"

#include <mutex>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/attention/passes.h"
#include "ringweave/attention/split_check.h"
#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::attention {
namespace {

using schedule::Layout;
using schedule::Mask;
using schedule::Strategy;
using schedule::StrategyKind;

using test::Case;
using test::expect_close;
using test::expect_exact;
using test::kExact;
using test::layouts;
using test::reference;
using test::Scenario;
using test::shard;
using test::Sizes;

std::vector<Mask> masks(std::int64_t tokens) {
  std::vector<Mask> masks = {Mask::full(), Mask::causal(),
                             Mask::causal().with_window({5, {}}),
                             Mask::full().with_window({3, 4})};
  if (tokens > 9) {
    masks.push_back(Mask::causal().with_documents({0, 2, 9, tokens}));
    masks.push_back(
        Mask::full().with_window({4, {}}).with_documents({0, 8, tokens}));
  }
  return masks;
}

/// torch's kernel scales masked scores, which are -inf.
TEST(Attention, AScaleOf0OrBelow) {
  for (const double scale : {-0.4, -30.0, 0.0}) {
    for (const int ranks : {1, 3}) {
      for (const Layout& layout : layouts(ranks)) {
        for (const Mask& mask : masks(layout.tokens())) {
          SCOPED_TRACE(fmt::format("{} {} {}", scale, layout.to_json().dump(),
                                   mask.to_json().dump()));
          expect_exact({.spec = {{}, layout, layout, mask}, .scale = scale});
        }
      }
    }
  }
}

class AttentionOnRanks : public ::testing::TestWithParam<int> {};

TEST_P(AttentionOnRanks, EqualsOneDeviceForEveryStrategyLayoutAndMask) {
  const int ranks = GetParam();
  for (const Strategy& strategy : schedule::test_strategies(ranks)) {
    for (const Layout& layout : layouts(ranks)) {
      for (const Mask& mask : masks(layout.tokens())) {
        SCOPED_TRACE(fmt::format("{} {} {}", schedule::name(strategy),
                                 layout.to_json().dump(),
                                 mask.to_json().dump()));
        expect_exact({.spec = {strategy, layout, layout, mask}});
        if (HasFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, AttentionOnRanks,
                         ::testing::Values(1, 2, 3, 4, 5, 6, 7, 8));

TEST(Attention, QueriesAndKeysMayHaveDifferentLayouts) {
  for (const Strategy& strategy : schedule::test_strategies(4)) {
    SCOPED_TRACE(schedule::name(strategy));
    for (const Mask& mask : {Mask::causal(), Mask::full()}) {
      expect_exact({.spec = {strategy, Layout::zigzag(33, 4),
                             Layout::contiguous({3, 20, 0, 10}), mask}});
    }
    expect_exact({.spec = {strategy, Layout::contiguous(11, 4),
                           Layout::zigzag(30, 4), Mask::full()}});
  }
}

TEST(Attention, LongShardsUseEveryKindOfTile) {
  const auto masks = {Mask::causal(), Mask::causal().with_window({60, {}}),
                      Mask::causal().with_documents({0, 50, 300, 401})};
  for (const Mask& mask : masks) {
    for (const char* layout : {"zigzag", "striped"}) {
      const Layout own = Layout::named(layout, 401, 2);
      expect_exact(
          {.spec = {{StrategyKind::direct, false, 3}, own, own, mask}});
    }
  }
}

// A window that no stripe's queries and another's keys meet in every row.
TEST(Attention, RowsOfABandMaySeeNoKey) {
  for (const Strategy& strategy : schedule::test_strategies(4)) {
    SCOPED_TRACE(schedule::name(strategy));
    expect_exact(
        {.spec = {strategy, Layout::striped(150, 4), Layout::contiguous(150, 4),
                  Mask::causal().with_window({2, {}})}});
    expect_exact(
        {.spec = {strategy, Layout::striped(150, 4), Layout::striped(150, 4),
                  Mask::full().with_window({5, 6})}});
  }
}

TEST(Attention, HeadsMayShareKeysInAnyGroups) {
  for (const auto& [heads, kv_heads] :
       {std::pair{1, 1}, std::pair{6, 6}, std::pair{6, 1}, std::pair{6, 3}}) {
    const Layout layout = Layout::zigzag(29, 3);
    expect_exact(
        {.spec = {{}, layout, layout, Mask::causal()},
         .sizes = {
             .batch = 1, .heads = heads, .kv_heads = kv_heads, .head_dim = 5}});
  }
}

TEST(Attention, SmallerTypesAccumulateInSinglePrecision) {
  const Layout layout = Layout::zigzag(61, 5);
  Scenario scenario = {.spec = {{}, layout, layout, Mask::causal()}};
  scenario.type = at::kFloat;
  scenario.tolerance = 2e-6;
  expect_exact(scenario);
  // The inputs are exact in 16 bits; what is left is the rounding of the output
  // (2^-9 relative in bf16, 2^-12 in fp16) and, in backward, of the saved
  // output.
  for (const auto& [type, tolerance] :
       {std::pair{at::kBFloat16, 8e-3}, std::pair{at::kHalf, 1e-3}}) {
    scenario.type = type;
    scenario.grad_payload_in_compute_type = false;
    scenario.tolerance = tolerance;
    expect_exact(scenario);
    scenario.grad_payload_in_compute_type = true;
    scenario.tolerance = 2.5 * tolerance;
    expect_exact(scenario);
  }
}

TEST(Attention, LateAndReorderedMessagesChangeNothing) {
  for (const Strategy& strategy : schedule::test_strategies(5)) {
    for (int seed = 0; seed < 3; ++seed) {
      const Layout layout = Layout::zigzag(43, 5);
      Scenario scenario = {.spec = {strategy, layout, layout, Mask::causal()}};
      scenario.faults.seed = seed;
      scenario.faults.max_delay = std::chrono::microseconds(3000);
      expect_exact(scenario, seed);
    }
  }
}

TEST(Attention, SchedulesFromElsewhereAreValidatedAndRun) {
  const Layout layout = Layout::zigzag(21, 3);
  const AttentionSpec spec = {{}, layout, layout, Mask::causal()};
  const schedule::AttentionDemand demand(layout, layout, spec.mask);
  const auto read_back = [&](schedule::Pass pass) {
    const auto made = schedule::whole(spec.strategy, demand, pass);
    return schedule::schedule_from_json(schedule::to_json(made), "schedule");
  };
  const auto forward = read_back(schedule::Pass::forward);
  const auto backward = read_back(schedule::Pass::backward);
  const at::Tensor whole = at::randn({1, 21, 2, 3}, at::kDouble);
  comm::run_ranks(3, [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
    comm::Communicator communicator(std::move(wire));
    const auto gradient = [&](const auto& plan) {
      const at::Tensor x = shard(whole, layout, rank).set_requires_grad(true);
      const auto out = attention(x, x, x, plan, communicator).out;
      return torch::autograd::grad({out.square().sum()}, {x})[0];
    };
    EXPECT_TRUE(
        at::equal(gradient(make_attention_plan(spec, forward, backward, rank)),
                  gradient(make_attention_plan(spec, rank))));
  });
  schedule::Schedule broken = forward;
  broken.transfers.pop_back();
  EXPECT_THROW(make_attention_plan(spec, broken, {}, 0), InvalidArgument);
  EXPECT_THROW(make_attention_plan(spec, backward, {}, 0), InvalidArgument);
}

TEST(Attention, AnyStridesAreAccepted) {
  const Layout layout = Layout::contiguous(6, 1);
  comm::run_ranks(1, [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
    comm::Communicator communicator(std::move(wire));
    const auto plan =
        make_attention_plan({{}, layout, layout, Mask::causal()}, rank);
    const at::Tensor x = at::randn({2, 6, 4, 3}, at::kDouble);
    const at::Tensor strided = x.transpose(1, 3).contiguous().transpose(1, 3);
    ASSERT_NE(strided.stride(-1), 1);
    const auto out = [&](const at::Tensor& t) {
      return attention(t, t, t, plan, communicator).out;
    };
    expect_close(out(strided), out(x), kExact, "out");
  });
}

TEST(Attention, BytesAndBuffersAreThoseOfTheSchedule) {
  const Sizes sizes;
  const std::int64_t unit =
      2 * sizes.batch * sizes.kv_heads * sizes.head_dim * 8;
  const schedule::UnitBytes unit_bytes = {{schedule::Payload::kv, unit},
                                          {schedule::Payload::kv_grad, unit}};
  for (int ranks : {2, 4, 5, 8}) {
    for (const Strategy& strategy : schedule::test_strategies(ranks)) {
      for (const Mask& mask : {Mask::full(), Mask::causal()}) {
        const Layout layout = Layout::zigzag(67, ranks);
        const AttentionSpec spec = {strategy, layout, layout, mask};
        const schedule::AttentionDemand demand(layout, layout, mask);
        const auto forward =
            schedule::whole(strategy, demand, schedule::Pass::forward);
        const auto backward =
            schedule::whole(strategy, demand, schedule::Pass::backward);
        std::map<std::pair<Rank, Rank>, std::int64_t> predicted;
        for (const schedule::Schedule* schedule : {&forward, &backward}) {
          for (const auto& [link, units] : schedule::link_traffic(*schedule)) {
            for (const auto& [payload, count] : units) {
              predicted[link] += count * unit;
            }
          }
        }
        std::map<std::pair<Rank, Rank>, std::int64_t> measured;
        std::mutex mutex;
        comm::run_ranks(ranks, [&](Rank rank,
                                   std::shared_ptr<comm::Transport> wire) {
          comm::Communicator communicator(std::move(wire));
          const auto plan = make_attention_plan(spec, rank);
          const auto shape = [&](std::int64_t heads) {
            return std::vector<std::int64_t>{
                sizes.batch, layout.shard_tokens(rank), heads, sizes.head_dim};
          };
          const at::Tensor q = at::ones(shape(sizes.heads), at::kDouble);
          const at::Tensor k = at::ones(shape(sizes.kv_heads), at::kDouble);
          const PassInput input = {plan, q, {k, k}, 1.0};
          ForwardPass first(input, communicator);
          first.run();
          BackwardPass second(input, q, first.result().out, first.result().lse,
                              first.kept(), at::kDouble, communicator);
          second.run();
          const std::lock_guard lock(mutex);
          EXPECT_EQ(first.buffer_bytes(),
                    schedule::buffer_bytes(forward, rank, unit_bytes));
          EXPECT_EQ(second.buffer_bytes(),
                    schedule::buffer_bytes(backward, rank, unit_bytes));
          for (const auto& [to, sent] : communicator.traffic().sent) {
            measured[{rank, to}] = sent.bytes;
          }
        });
        EXPECT_EQ(measured, predicted)
            << schedule::name(strategy) << " on " << ranks << " ranks";
      }
    }
  }
}

TEST(Attention, ASecondBackwardOfOneCallGivesTheSame) {
  const Layout layout = Layout::zigzag(43, 5);
  for (const Strategy& strategy : schedule::test_strategies(5)) {
    SCOPED_TRACE(schedule::name(strategy));
    comm::run_ranks(5, [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
      comm::Communicator communicator(std::move(wire));
      const auto plan =
          make_attention_plan({strategy, layout, layout, Mask::causal()}, rank);
      const at::Tensor q =
          at::randn({1, layout.shard_tokens(rank), 4, 3}, at::kDouble)
              .set_requires_grad(true);
      const auto first = attention(q, q, q, plan, communicator).out;
      // Another layer in between uses the same memory.
      const auto second = attention(first, q, q, plan, communicator).out;
      const auto gradient = [&](bool retain_graph) {
        return torch::autograd::grad({second.sum()}, {q}, {}, retain_graph)[0];
      };
      const at::Tensor once = gradient(true);
      EXPECT_TRUE(at::equal(gradient(false), once));
    });
  }
}

TEST(Attention, GradientsOfSomeInputsAreThoseOfAll) {
  const Layout layout = Layout::zigzag(23, 3);
  const Case whole =
      reference(Mask::causal(), 23, 23, Sizes(), /*scale=*/0.4, /*seed=*/1);
  comm::run_ranks(3, [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
    comm::Communicator communicator(std::move(wire));
    const auto plan =
        make_attention_plan({{}, layout, layout, Mask::causal()}, rank);
    for (const int wanted : {0, 1, 2}) {
      const at::Tensor inputs[] = {shard(whole.q, layout, rank),
                                   shard(whole.k, layout, rank),
                                   shard(whole.v, layout, rank)};
      inputs[wanted].set_requires_grad(true);
      const auto out = attention(inputs[0], inputs[1], inputs[2], plan,
                                 communicator, {.scale = 0.4})
                           .out;
      const at::Tensor gradients[] = {whole.grad_q, whole.grad_k, whole.grad_v};
      // A gradient with strides of its own, as an expand() or transpose() that
      // follows makes it.
      const at::Tensor grad_out = shard(whole.grad_out, layout, rank)
                                      .transpose(1, 3)
                                      .contiguous()
                                      .transpose(1, 3);
      const at::Tensor got =
          torch::autograd::grad({out}, {inputs[wanted]}, {grad_out})[0];
      expect_close(got, shard(gradients[wanted], layout, rank), kExact, "grad");
    }
  });
}

}  // namespace
}  // namespace ringweave::attention
