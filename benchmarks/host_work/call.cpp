// Host microseconds of a C++ attention call and of a linear layer's exchange,
// as one rank of many: its transport sends nothing, its kernels compute nothing
// (null_kernel.cpp).
#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/attention/attention.h"
#include "ringweave/comm/null_transport.h"
#include "ringweave/linear_attention/exchange.h"

namespace {

using namespace ringweave;

template <typename Call>
double median_us(const Call& call, int repeat) {
  for (int i = 0; i < 3; ++i) call();
  std::vector<double> microseconds(repeat);
  for (double& time : microseconds) {
    const auto begin = std::chrono::steady_clock::now();
    call();
    time = std::chrono::duration<double, std::micro>(
               std::chrono::steady_clock::now() - begin)
               .count();
  }
  const auto middle = microseconds.begin() + repeat / 2;
  std::nth_element(microseconds.begin(), middle, microseconds.end());
  return *middle;
}

/// On one token per run of each strand, so that packing costs nothing.
void measure_attention(int ranks, const schedule::Mask& mask,
                       const std::string& name) {
  const schedule::Strategy strategy = schedule::strategy_from_name(name);
  const int strands = schedule::strand_count(strategy, ranks);
  const auto layout =
      schedule::Layout::zigzag(std::int64_t{2} * ranks * strands, ranks);
  const auto plan =
      attention::make_attention_plan({strategy, layout, layout, mask}, 0);
  comm::Communicator communicator(
      std::make_shared<comm::NullTransport>(0, ranks));
  const at::Tensor x =
      at::zeros({1, layout.shard_tokens(0), 1, 4}).set_requires_grad(true);
  const at::Tensor grad = at::zeros_like(x);
  const auto call = [&] {
    return attention::attention(x, x, x, plan, communicator).out;
  };
  const int repeat = ranks == 8 ? 201 : 21;
  const double forward = median_us(call, repeat);
  const double both =
      median_us([&] { torch::autograd::grad({call()}, {x}, {grad}); }, repeat);
  fmt::print("call {} {} n={}: forward {:.1f} us, both {:.1f} us\n",
             mask.text(), name, ranks, forward, both);
}

/// The exchange alone, of states with one row per strand.
void measure_exchange(int ranks, const std::string& name) {
  const Rank last = ranks - 1;  // needs all summaries
  const auto kind = schedule::state_exchange_from_name(name);
  const auto plan = linear_attention::make_linear_plan(
      {.exchange = kind, .layout = schedule::Layout::contiguous(ranks, ranks)},
      last);
  comm::Communicator communicator(
      std::make_shared<comm::NullTransport>(last, ranks));
  linear_attention::Exchange exchange;
  exchange.options = at::kFloat;
  exchange.shape = {1, 1, kind->strands(ranks), 4};
  exchange.updates = {at::zeros(exchange.shape)};
  const double time = median_us(
      [&] { linear_attention::exchange_states(*plan, exchange, communicator); },
      ranks == 8 ? 201 : 21);
  fmt::print("exchange {} n={}: {:.1f} us\n", name, ranks, time);
}

}  // namespace

int main() {
  at::set_num_threads(1);
  for (const int ranks : {8, 64}) {
    for (const schedule::Mask& mask :
         {schedule::Mask::full(), schedule::Mask::causal()}) {
      for (const char* strategy : {"ring", "multi_ring"}) {
        measure_attention(ranks, mask, strategy);
      }
    }
    for (const char* exchange :
         {"chain", "all_gather", "all_gather:multi_ring"}) {
      measure_exchange(ranks, exchange);
    }
  }
}
