// For tests: a problem, solved by one device's recurrence and by ranks.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/device/simulated/test_device.h"
#include "ringweave/device/torch_accelerator.h"
#include "ringweave/linear_attention/reference.h"

namespace ringweave::linear_attention {

using comm::Communicator;
using reference::close;
using reference::leaf;
using schedule::Layout;
using schedule::Mask;

inline constexpr std::int64_t kBatch = 2;
inline constexpr std::int64_t kHeads = 2;
inline constexpr std::int64_t kKey = 3;
inline constexpr std::int64_t kValue = 5;
inline constexpr double kScale = 0.7;
inline constexpr double kExact = 1e-10;
inline constexpr Decay kDecays[] = {Decay::none, Decay::constant,
                                    Decay::per_head, Decay::per_key};
inline constexpr int kRanks[] = {1, 2, 3, 4, 5, 7, 8};
inline const std::vector<std::string> kExchanges = {"chain",
                                                    "pipelined_chain:5",
                                                    "sharded_scan",
                                                    "log_step",
                                                    "all_gather",
                                                    "all_gather:ring",
                                                    "all_gather:multi_ring",
                                                    "all_gather:direct"};

struct Heads {
  std::int64_t q = kHeads, k = kHeads, v = kHeads, gates = kHeads;
};

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

/// Heads of states: k, v and decay, each distinct.
inline std::int64_t state_heads(const Problem& p) {
  const std::int64_t heads = std::lcm(p.k.size(2), p.v.size(2));
  if (!p.gates.defined()) return heads;
  return std::lcm(heads, p.gates.size(p.gates.dim() == 1 ? 0 : 2));
}

inline Problem make_problem(Decay decay, std::int64_t tokens, Mask mask,
                            bool states, at::ScalarType type = at::kDouble,
                            double gate_size = 0.3, Heads heads = {}) {
  at::Generator g = at::make_generator<at::CPUGeneratorImpl>(tokens + 1);
  const auto normal = [&](std::vector<std::int64_t> shape) {
    return at::randn(shape, g, at::kDouble);
  };
  Problem p{decay, tokens, std::move(mask), states, type, gate_size};
  const at::ScalarType state_type = type == at::kDouble ? type : at::kFloat;
  p.q = normal({kBatch, tokens, heads.q, kKey}).to(type);
  p.k = normal({kBatch, tokens, heads.k, kKey}).to(type);
  p.v = normal({kBatch, tokens, heads.v, kValue}).to(type);
  const auto gates = [&](std::vector<std::int64_t> shape) {
    return (-gate_size * normal(shape).abs()).to(state_type);
  };
  if (decay == Decay::constant) p.gates = gates({heads.gates});
  if (decay == Decay::per_head) p.gates = gates({kBatch, tokens, heads.gates});
  if (decay == Decay::per_key)
    p.gates = gates({kBatch, tokens, heads.gates, kKey});
  const std::int64_t all = state_heads(p);
  p.dout = normal({kBatch, tokens, std::max(all, heads.q), kValue}).to(type);
  if (states) {
    p.state = normal({kBatch, all, kKey, kValue}).to(state_type);
    p.dfinal = normal({kBatch, all, kKey, kValue}).to(state_type);
  }
  return p;
}

struct Everything {
  at::Tensor out, final_state, dq, dk, dv, dgates, dstate;
};

inline at::Tensor wide(const at::Tensor& x) {
  return x.defined() ? x.to(at::kDouble) : x;
}

/// With a head for every one of the output.
inline at::Tensor expanded(const at::Tensor& x, std::int64_t dim,
                           const Problem& p) {
  if (!x.defined()) return x;
  return x.repeat_interleave(p.dout.size(2) / x.size(dim), dim);
}

inline Everything by_recurrence(const Problem& p) {
  const at::Tensor q = leaf(wide(p.q)), k = leaf(wide(p.k)),
                   v = leaf(wide(p.v)), gates = leaf(wide(p.gates)),
                   state = leaf(wide(p.state));
  const reference::Result result = reference::recurrence(
      expanded(q, 2, p), expanded(k, 2, p), expanded(v, 2, p), p.decay,
      expanded(gates, p.decay == Decay::constant ? 0 : 2, p),
      expanded(state, 1, p), p.mask, kScale);
  const at::Tensor final_state = result.final_state.slice(
      1, 0, std::nullopt, p.dout.size(2) / state_heads(p));
  at::Tensor loss = (result.out * p.dout).sum();
  if (p.states) loss = loss + (final_state * p.dfinal).sum();
  loss.backward();
  return {result.out,
          final_state,
          q.grad(),
          k.grad(),
          v.grad(),
          gates.defined() ? gates.grad() : gates,
          state.defined() ? state.grad() : state};
}

inline at::Tensor positions(const Layout& layout, Rank rank) {
  return at::tensor(layout.positions(rank), at::kLong);
}

/// NaN equals NaN.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, /*rtol=*/0, /*atol=*/0, /*equal_nan=*/true);
}

/// A rank's part of a problem, on its device.
inline Problem shard(const Problem& p, const Layout& layout, Rank rank,
                     at::Device device) {
  const at::Tensor index = positions(layout, rank);
  const auto own = [&](const at::Tensor& x) {
    return x.index_select(1, index).to(device);
  };
  const auto whole = [&](const at::Tensor& x) {
    return x.defined() ? x.to(device) : x;
  };
  Problem part = p;
  part.q = own(p.q);
  part.k = own(p.k);
  part.v = own(p.v);
  part.dout = own(p.dout);
  const bool by_token = p.gates.defined() && p.gates.dim() > 1;
  part.gates = by_token ? own(p.gates) : whole(p.gates);
  part.state = whole(p.state);
  // Each rank contributes part of the gradient of the final state.
  const int n = layout.ranks();
  part.dfinal = whole(p.dfinal);
  if (p.states) part.dfinal = part.dfinal * (2.0 * (rank + 1) / (n * (n + 1)));
  return part;
}

/// By autograd.
inline Everything differentiated(const Problem& part,
                                 const std::shared_ptr<const LinearPlan>& plan,
                                 Communicator& communicator) {
  const at::Tensor q = leaf(part.q), k = leaf(part.k), v = leaf(part.v),
                   gates = leaf(part.gates), state = leaf(part.state);
  const LinearResult result =
      linear_attention(q, k, v, part.decay, gates, state, plan, communicator,
                       {.scale = kScale, .final_state = part.states});
  at::Tensor loss = (result.out * part.dout).sum();
  if (part.states) loss = loss + (result.final_state * part.dfinal).sum();
  loss.backward();
  // Nothing is computed in the caller's memory.
  for (const auto& [now, before] : {std::pair(q, part.q),
                                    {k, part.k},
                                    {v, part.v},
                                    {gates, part.gates},
                                    {state, part.state}}) {
    if (now.defined()) {
      EXPECT_TRUE(same_bits(now.cpu(), before.cpu()));
    }
  }
  return {result.out.detach(),
          part.states ? result.final_state.detach() : at::Tensor(),
          q.grad(),
          k.grad(),
          v.grad(),
          gates.defined() ? gates.grad() : gates,
          state.defined() ? state.grad() : state};
}

/// Without autograd, whose thread for a device can't wait for another rank on
/// it. `before_pass` is called before either.
inline Everything called(
    const Problem& part, const std::shared_ptr<const LinearPlan>& plan,
    Communicator& communicator,
    const std::function<void()>& before_pass = [] {}) {
  const LinearOptions options = {
      .scale = kScale, .final_state = part.states, .backward = true};
  const LinearInputs inputs = {part.q,     part.k,     part.v,
                               part.decay, part.gates, part.state};
  before_pass();
  const LinearForward forward =
      linear_attention_forward(inputs, plan, communicator, options);
  before_pass();
  const LinearGradients gradients = linear_attention_backward(
      part.dout, part.dfinal, inputs, forward, part.gates.defined(), plan,
      communicator, options);
  // What forward kept goes now, and may be of another stream.
  if (const auto end = device::mark(device::current_stream(part.q))) {
    end->wait();
  }
  return {forward.out,
          forward.final_state,
          gradients.q,
          gradients.k,
          gradients.v,
          gradients.gates,
          part.states ? gradients.initial_state : at::Tensor()};
}

/// In the host's memory.
inline Everything on_host(Everything result) {
  for (at::Tensor* x :
       {&result.out, &result.final_state, &result.dq, &result.dk, &result.dv,
        &result.dgates, &result.dstate}) {
    if (x->defined()) *x = x->cpu();
  }
  return result;
}

/// What one rank returns, with dstate, dgates of constant decay and final state
/// as they are on that rank, in the host's memory.
inline Everything on_rank(const Problem& p, const Layout& layout,
                          const std::string& exchange,
                          Communicator& communicator,
                          bool host_memory = false) {
  const Rank rank = communicator.rank();
  const at::Device device = host_memory ? at::kCPU : device::test_device(rank);
  const Problem part = shard(p, layout, rank, device);
  const auto plan = make_linear_plan(
      {schedule::state_exchange_from_name(exchange), layout, p.mask}, rank);
  const Everything result =
      !host_memory && device::test_devices_are_shared(communicator.size())
          ? called(part, plan, communicator)
          : differentiated(part, plan, communicator);
  EXPECT_EQ(result.out.device(), device);
  EXPECT_EQ(result.dq.device(), device);
  return on_host(result);
}

/// Joins the ranks' results; final states must be equal bit for bit.
inline Everything join(const Problem& p, const Layout& layout,
                       const std::vector<Everything>& parts) {
  Everything all{at::zeros_like(p.dout),
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
      EXPECT_TRUE(same_bits(parts[r].final_state, parts[0].final_state));
    }
  }
  all.final_state = parts[0].final_state;
  return all;
}

inline Everything by_ranks(const Problem& p, const Layout& layout,
                           const std::string& exchange,
                           comm::FaultInjection faults = {}) {
  std::vector<Everything> parts(layout.ranks());
  comm::run_ranks(
      layout.ranks(),
      [&](Rank rank, std::shared_ptr<comm::Transport> messages) {
        Communicator communicator(std::move(messages));
        // Delays are those of messages in the host's memory.
        parts[rank] = on_rank(p, layout, exchange, communicator,
                              faults.max_delay.count() > 0);
      },
      faults);
  return join(p, layout, parts);
}

inline void expect_close(const Everything& got, const Everything& want,
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

inline void check(const Problem& p, const Everything& want,
                  const Layout& layout, const std::string& exchange,
                  double tolerance = kExact, comm::FaultInjection faults = {}) {
  SCOPED_TRACE(fmt::format("decay {}, {}, {} ranks, {} tokens, layout {}",
                           static_cast<int>(p.decay), exchange, layout.ranks(),
                           layout.tokens(), layout.to_json().dump()));
  expect_close(by_ranks(p, layout, exchange, faults), want, tolerance);
}

/// Shards whose lengths differ much.
inline Layout uneven(std::int64_t tokens, int ranks) {
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
inline Layout with_empty_shards(std::int64_t tokens, int ranks) {
  if (ranks == 1) return Layout::contiguous(tokens, 1);
  std::vector<std::int64_t> lengths;
  for (int r = 0; r < ranks; ++r) {
    lengths.push_back(r % 2 == 0 ? 0
                                 : cut({0, tokens}, r / 2, ranks / 2).size());
  }
  return Layout::contiguous(lengths);
}

/// Every rank has several short runs.
inline Layout scattered(std::int64_t tokens, int ranks) {
  std::vector<std::vector<schedule::Run>> runs(ranks);
  const int pieces = 3 * ranks - 1;
  for (int i = 0; i < pieces; ++i) {
    const Range piece = cut({0, tokens}, i, pieces);
    runs[(i * 5 + 1) % ranks].push_back({piece.begin, piece.size()});
  }
  return Layout::from_runs(tokens, runs);
}

inline std::vector<Layout> layouts(std::int64_t tokens, int ranks) {
  return {Layout::contiguous(tokens, ranks), Layout::zigzag(tokens, ranks),
          uneven(tokens, ranks), with_empty_shards(tokens, ranks),
          scattered(tokens, ranks)};
}

/// Every decay × exchange × rank count, each with one of the layouts in turn.
inline void sweep(std::int64_t tokens, const Mask& mask, bool states,
                  const std::vector<std::string>& exchanges = kExchanges) {
  int turn = 0;
  for (const Decay decay : kDecays) {
    const Problem p = make_problem(decay, tokens, mask, states);
    const Everything want = by_recurrence(p);
    for (const std::string& exchange : exchanges) {
      for (const int ranks : kRanks) {
        const std::vector<Layout> all = layouts(tokens, ranks);
        check(p, want, all[turn++ % all.size()], exchange);
      }
    }
  }
}

}  // namespace ringweave::linear_attention
