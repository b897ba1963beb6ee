// Attention on the simulated device, which reports what no stream, event or
// wait orders: on several streams, on devices that ranks have for themselves or
// share, and with each ordering call left out.
#include <array>
#include <map>
#include <random>
#include <string>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/attention/split_check.h"
#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/device/ordering.h"
#include "ringweave/device/simulated/caller_streams.h"
#include "ringweave/device/simulated/test_device.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::attention {
namespace {

using namespace std::chrono_literals;
using device::all_ordered;
using device::CallerStreams;
using device::OrderingCall;
using schedule::Layout;
using schedule::Mask;
using schedule::Strategy;
using test::Case;
using test::expect_close;
using test::shard;

struct StreamCase {
  AttentionSpec spec;
  int devices = 8;
  int calls = 1;  ///< one after the other, of growing batches
  std::uint64_t seed = 1;
};

/// What one call takes and gives.
struct Computed {
  at::Tensor q, k, v, grad_out;
  AttentionForward forward;
  AttentionGradients gradients;
  device::SharedMark finished;
};

/// What a rank computes on streams that change before each pass, compared with
/// one device. The host looks at nothing before the end: that would order
/// everything.
void run_on_streams(const StreamCase& it, const std::vector<Case>& wanted) {
  const AttentionSpec& spec = it.spec;
  comm::run_ranks(
      spec.q_layout.ranks(),
      [&](Rank rank, std::shared_ptr<comm::Transport> transport) {
        const at::Device device = device::simulated::device(rank % it.devices);
        std::vector<Computed> all;
        CallerStreams streams(device, it.seed * 100 + rank);
        comm::Communicator communicator(std::move(transport));
        const auto plan = make_attention_plan(spec, rank);
        for (const Case& whole : wanted) {
          streams.unordered();  // a call has nothing to do with the last one
          const auto own = [&](const at::Tensor& x, const Layout& layout) {
            return shard(x, layout, rank).to(device);
          };
          Computed& one = all.emplace_back();
          one.q = own(whole.q, spec.q_layout);
          one.k = own(whole.k, spec.kv_layout);
          one.v = own(whole.v, spec.kv_layout);
          one.grad_out = own(whole.grad_out, spec.q_layout);
          one.forward = attention_forward(one.q, one.k, one.v, plan,
                                          communicator, {.scale = 0.4});
          streams.next();
          one.gradients =
              attention_backward(one.grad_out, one.q, one.k, one.v, one.forward,
                                 plan, communicator, {.scale = 0.4});
          one.finished = device::mark(device::current_stream(device));
        }
        for (std::size_t i = 0; i < wanted.size(); ++i) {
          const Computed& one = all[i];
          one.finished->wait();
          const auto compare = [&](const at::Tensor& got,
                                   const at::Tensor& want, const Layout& layout,
                                   const char* what) {
            expect_close(got, shard(want, layout, rank), test::kExact, what);
          };
          compare(one.forward.out, wanted[i].out, spec.q_layout, "out");
          compare(one.gradients.q, wanted[i].grad_q, spec.q_layout, "grad q");
          compare(one.gradients.k, wanted[i].grad_k, spec.kv_layout, "grad k");
          compare(one.gradients.v, wanted[i].grad_v, spec.kv_layout, "grad v");
        }
      });
}

std::vector<Case> wanted_of(const StreamCase& it) {
  std::vector<Case> cases;
  for (int call = 0; call < it.calls; ++call) {
    cases.push_back(test::reference(it.spec.mask, it.spec.q_layout.tokens(),
                                    it.spec.kv_layout.tokens(),
                                    {.batch = 1 + call}, 0.4, it.seed + call));
  }
  return cases;
}

void run_on_streams(const StreamCase& it) { run_on_streams(it, wanted_of(it)); }

template <typename T>
T any_of(const std::vector<T>& values, std::mt19937& random) {
  return values[random() % values.size()];
}

/// Each case finds its own ranks, devices, streams, strategy,
/// layout and mask.
TEST(AttentionOnStreams, RandomCases) {
  for (std::uint64_t seed = 0; seed < device::random_cases(); ++seed) {
    std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
    const int ranks = 1 + static_cast<int>(random() % 8);
    const Layout layout = any_of(test::layouts(ranks), random);
    const Mask mask = any_of(std::vector{Mask::full(), Mask::causal(),
                                         Mask::causal().with_window({5, {}}),
                                         Mask::full().with_window({3, 4})},
                             random);
    const Strategy strategy = any_of(schedule::test_strategies(ranks), random);
    const StreamCase it = {.spec = {strategy, layout, layout, mask},
                           .devices = 1 + static_cast<int>(random() % 8),
                           .calls = 1 + static_cast<int>(random() % 2),
                           .seed = seed};
    SCOPED_TRACE(fmt::format("seed {}: {}, {}, {}, {} devices", seed,
                             schedule::name(strategy), layout.to_json().dump(),
                             mask.to_json().dump(), it.devices));
    run_on_streams(it);
    ASSERT_TRUE(all_ordered());
    if (HasFailure()) return;
  }
}

/// A message that a rank gives up, because another one failed, while the device
/// copies it.
void give_up_a_message() {
  const comm::LocalWorld world(2);
  const at::Device one = device::simulated::device(0);
  const device::Stream stream = device::current_stream(one);
  const auto buffer = [&] {
    return device::buffer_of(at::ones({64}, at::device(one)));
  };
  const comm::Send send{.to = 1, .buffer = buffer()};
  const comm::Receive receive{.from = 0, .buffer = buffer()};
  comm::Works sent = world.transport(0)->post({{}, {&send, 1}}, stream);
  comm::Works received = world.transport(1)->post({{&receive, 1}, {}}, stream);
  // Both go with their buffers.
}

/// A message for which the host waits.
void wait_for_a_message() {
  const comm::LocalWorld world(2);
  const at::Device one = device::simulated::device(0);
  const device::Stream stream = device::current_stream(one);
  const at::Tensor source = at::ones({64}, at::device(one));
  const at::Tensor target = at::zeros({64}, at::device(one));
  const comm::Send send{.to = 1, .buffer = device::buffer_of(source)};
  const comm::Receive receive{.from = 0, .buffer = device::buffer_of(target)};
  const comm::Works sent = world.transport(0)->post({{}, {&send, 1}}, stream);
  const comm::Works received =
      world.transport(1)->post({{&receive, 1}, {}}, stream);
  for (const auto* works : {&sent, &received}) {
    works->front()->wait(comm::Clock::now() + 20s);
  }
  device::simulated::host_access(target, false, "the caller reads");
  device::simulated::host_access(source, true, "the caller writes");
}

/// Calls of which the last wants more memory, on several streams; on
/// devices of their own, on one that all share, and messages alone.
void everything(const Strategy& strategy, const std::vector<Case>& wanted,
                std::uint64_t seed) {
  const Layout layout = Layout::zigzag(23, 4);
  for (const int devices : {4, 1}) {
    run_on_streams({.spec = {strategy, layout, layout, Mask::causal()},
                    .devices = devices,
                    .seed = seed},
                   wanted);
  }
  give_up_a_message();
  wait_for_a_message();
}

/// Whether other calls order the same with this strategy. In all_gather's
/// forward every rank hears from every other one, behind what that did before:
/// so a copy in backward, which comes behind forward on the source's lane, is
/// behind the last use of its target too.
bool is_implied(OrderingCall call, std::string_view strategy) {
  return call == OrderingCall::copy_on_target_lane && strategy == "all_gather";
}

TEST(AttentionOnStreams, EveryOrderingCallIsNeeded) {
  const Layout layout = Layout::zigzag(23, 4);
  std::vector<Case> wanted;
  for (const std::int64_t batch : {1, 1, 2}) {
    wanted.push_back(
        test::reference(Mask::causal(), 23, 23, {.batch = batch}, 0.4, 3));
  }
  for (const char* name : {"ring", "multi_ring", "time_varying_multi_ring",
                           "direct:3", "double_ring:nodes=2", "paths:nodes=2",
                           "hierarchical:nodes=2", "all_gather"}) {
    SCOPED_TRACE(name);
    const Strategy strategy = schedule::strategy_from_name(name);
    {
      const device::WatchedOrdering watched({});
      everything(strategy, wanted, 0);
      EXPECT_TRUE(all_ordered());
      for (const OrderingCall call : device::kOrderingCalls) {
        EXPECT_GT(watched.count(call), 0) << device::name(call);
      }
    }
    for (const OrderingCall call : device::kOrderingCalls) {
      if (is_implied(call, name)) continue;
      EXPECT_TRUE(device::reported_without(
          call,
          [&](std::uint64_t seed) { everything(strategy, wanted, seed); }))
          << device::name(call) << " is not needed";
    }
  }
}

}  // namespace
}  // namespace ringweave::attention
