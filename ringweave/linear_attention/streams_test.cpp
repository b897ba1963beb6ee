// Linear attention on the simulated device, which reports what no stream, event
// or wait orders.
#include <random>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ringweave/device/simulated/caller_streams.h"
#include "ringweave/linear_attention/problems.h"

namespace ringweave::linear_attention {
namespace {

using device::all_ordered;
using device::CallerStreams;
using device::OrderingCall;

Everything on_streams(const Problem& p, const Layout& layout,
                      const std::string& exchange, int devices,
                      std::uint64_t seed) {
  std::vector<Everything> parts(layout.ranks());
  comm::run_ranks(
      layout.ranks(),
      [&](Rank rank, std::shared_ptr<comm::Transport> messages) {
        const at::Device device = device::simulated::device(rank % devices);
        CallerStreams streams(device, seed * 100 + rank);
        Communicator communicator(std::move(messages));
        const Problem part = shard(p, layout, rank, device);
        const auto plan = make_linear_plan(
            {schedule::state_exchange_from_name(exchange), layout, p.mask},
            rank);
        for (int call = 0; call < 2; ++call) {
          Everything result =
              called(part, plan, communicator, [&] { streams.next(); });
          parts[rank] = on_host(result);
        }
      });
  return join(p, layout, parts);
}

TEST(LinearAttentionOnStreams, RandomCases) {
  for (std::uint64_t seed = 0; seed < device::random_cases(); ++seed) {
    std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
    const int ranks = 1 + static_cast<int>(random() % 8);
    const std::int64_t tokens = 1 + static_cast<std::int64_t>(random() % 40);
    const Decay decay = kDecays[random() % std::size(kDecays)];
    const bool states = random() % 2 == 0;
    const Problem p =
        make_problem(decay, tokens,
                     tokens > 9 && random() % 2 == 0
                         ? Mask::causal().with_documents({0, 2, 9, tokens})
                         : Mask::causal(),
                     states);
    const std::vector<Layout> all = layouts(tokens, ranks);
    const Layout& layout = all[random() % all.size()];
    const std::string& exchange = kExchanges[random() % kExchanges.size()];
    const int devices = 1 + static_cast<int>(random() % 8);
    SCOPED_TRACE(fmt::format("seed {}: {}, decay {}, {} devices, {}", seed,
                             exchange, static_cast<int>(decay), devices,
                             layout.to_json().dump()));
    expect_close(on_streams(p, layout, exchange, devices, seed),
                 by_recurrence(p), kExact);
    ASSERT_TRUE(all_ordered());
    if (HasFailure()) return;
  }
}

/// Calls on streams that nothing orders, of which the last wants more memory.
/// The host looks at nothing before the end: that would order everything.
void unordered_calls(const std::string& exchange, int devices,
                     std::uint64_t seed) {
  constexpr int kRanks = 4;
  std::vector<Problem> problems;
  for (const std::int64_t heads : {2, 2, 5}) {
    problems.push_back(make_problem(Decay::none, 23, Mask::causal(), true,
                                    at::kDouble, 0.3,
                                    {.q = heads, .k = heads, .v = heads}));
  }
  const Layout layout = Layout::zigzag(23, kRanks);
  comm::run_ranks(kRanks, [&](Rank rank,
                              std::shared_ptr<comm::Transport> messages) {
    const at::Device device = device::simulated::device(rank % devices);
    CallerStreams streams(device, seed * 100 + rank);
    Communicator communicator(std::move(messages));
    const auto plan = make_linear_plan(
        {schedule::state_exchange_from_name(exchange), layout, Mask::causal()},
        rank);
    struct Call {
      Problem part;
      LinearForward forward;
      LinearGradients gradients;
      device::SharedMark end;
    };
    std::vector<Call> calls;
    for (const Problem& p : problems) {
      Call& it = calls.emplace_back();
      streams.unordered();
      it.part = shard(p, layout, rank, device);
      const LinearInputs inputs = {it.part.q,     it.part.k,     it.part.v,
                                   it.part.decay, it.part.gates, it.part.state};
      const LinearOptions options = {
          .scale = kScale, .final_state = true, .backward = true};
      it.forward =
          linear_attention_forward(inputs, plan, communicator, options);
      streams.next();
      it.gradients = linear_attention_backward(
          it.part.dout, it.part.dfinal, inputs, it.forward,
          /*gates=*/false, plan, communicator, options);
      it.end = device::mark(device::current_stream(device));
    }
    for (const Call& it : calls) it.end->wait();
  });
}

TEST(LinearAttentionOnStreams, EveryOrderingCallIsNeeded) {
  for (const std::string& exchange : kExchanges) {
    SCOPED_TRACE(exchange);
    const auto work = [&](std::uint64_t seed) {
      for (const int devices : {4, 1}) {
        unordered_calls(exchange, devices, seed);
      }
    };
    std::vector<OrderingCall> made;
    {
      const device::WatchedOrdering watched({});
      work(0);
      EXPECT_TRUE(all_ordered());
      for (const OrderingCall call : device::kOrderingCalls) {
        if (watched.count(call) > 0) made.push_back(call);
      }
    }
    // The test of attention has the other two, which are of messages alone.
    EXPECT_EQ(made.size(), device::kOrderingCalls.size() - 2);
    for (const OrderingCall call : made) {
      EXPECT_TRUE(device::reported_without(call, work))
          << device::name(call) << " is not needed";
    }
  }
}

}  // namespace
}  // namespace ringweave::linear_attention
