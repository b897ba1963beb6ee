#include "ringweave/planner/cost/linear_cost.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "ringweave/planner/cost/closed_form.h"
#include "ringweave/schedule/linear_chunk.h"

namespace ringweave::planner {
namespace {

/// Of the name of an exchange, what its parameters follow.
std::string kind_of(const std::string& name) {
  return name.substr(0, name.find(':'));
}

class ExchangeModel {
 public:
  ExchangeModel(const LinearCase& linear, const Loads& loads,
                const DeviceTable& device_table, bool backward)
      : linear_(linear),
        loads_(loads),
        stages_(linear_stages(linear, device_table, backward)),
        brought_(backward ? 0 : linear.decay_bytes()) {}

  /// nullopt: there is no formula.
  std::optional<PassCost> pass(const schedule::StateExchange& exchange) const {
    const std::string kind = kind_of(exchange.name());
    if (kind == "chain" || kind == "pipelined_chain") {
      return chain(exchange.strands(loads_.ranks()));
    }
    if (kind == "sharded_scan") return sharded_scan();
    if (kind == "log_step") return log_step();
    return exchange.strategy() ? gather(*exchange.strategy()) : std::nullopt;
  }

  /// Of a rank at the peak.
  double buffer_bytes(const schedule::StateExchange& exchange) const {
    const double own = linear_.rank_bytes();
    const std::string kind = kind_of(exchange.name());
    // Slices of summaries and of states, own ones and those that arrive.
    if (kind == "sharded_scan") return 4 * own;
    // What is sent and what arrives in each round.
    if (kind == "log_step") return 2 * rounds() * own;
    return exchange.strategy() ? loads_.ranks() * own : 2 * own;
  }

  PassCost overlapped(double exchange, const Load& load, double bytes) const {
    return {stages_.summary + std::max(exchange, stages_.within) +
                stages_.correction,
            stages_.all(), (load * bytes).bytes, load.seconds() * bytes};
  }

 private:
  double hop(const Load& load, double bytes, double messages = 1) const {
    return messages * linear_.message_overhead_seconds + loads_.latency() +
           load.seconds() * bytes;
  }

  // The last rank sends the sum to all.
  double spread(double bytes) const {
    return hop(loads_.from_last(), bytes, loads_.ranks() - 1);
  }

  // One strand per hop; a hop waits for the one before, all but the first also
  // for the work within the chunks.
  PassCost chain(int strands) const {
    const double hops = linear_.places - 1;
    if (hops < 1) return overlapped(0, {}, 0);
    // One message at a time uses one route; the slowest stands for all.
    const Load route = loads_.shift(1, loads_.ranks());
    const double strand_hop = hop(route, linear_.state_bytes() / strands);
    const double rest = (hops - 1 + strands - 1) * strand_hop;
    PassCost cost;
    cost.seconds = stages_.summary + std::max(strand_hop, stages_.within) +
                   rest + stages_.correction;
    cost.compute_seconds = stages_.all();
    Load load = route * (linear_.state_bytes() * hops / loads_.ranks());
    if (!linear_.causal) {
      const double spread_hop = spread(linear_.state_bytes() / strands);
      cost.seconds +=
          spread_hop + (strands - 1) * std::max(0.0, spread_hop - strand_hop);
      load += loads_.from_last() * linear_.state_bytes();
    }
    cost.bytes = load.bytes;
    cost.link_seconds = load.seconds();
    return cost;
  }

  std::optional<PassCost> gather(const schedule::Strategy& strategy) const {
    const double bytes = linear_.segments * (linear_.state_bytes() + brought_);
    const BalancedPass pass{
        .kv_bytes = bytes,
        .message_overhead_seconds = linear_.message_overhead_seconds};
    const auto form = closed_form(strategy, loads_, pass);
    if (!form) return std::nullopt;
    PassCost cost = overlapped(form->cost.seconds, {}, 0);
    cost.bytes = form->cost.bytes;
    cost.link_seconds = form->cost.link_seconds;
    return cost;
  }

  // All to all of slices of summaries, a scan, and slices of states back.
  PassCost sharded_scan() const {
    const int n = loads_.ranks();
    const Load all = loads_.pairs(n);
    const double slice = linear_.state_bytes() / n;
    const double back = linear_.causal ? linear_.segments * slice : slice;
    const double there = linear_.segments * (slice + brought_ / n);
    return overlapped(hop(all, there, n - 1) + hop(all, back, n - 1), all,
                      there + back);
  }

  // Composed segments to the one 2^i further on.
  PassCost log_step() const {
    double exchange = 0;
    Load all;
    for (int round = 0; round < rounds(); ++round) {
      const Load load = log_step_load(1 << round);
      exchange += hop(load, linear_.summary_bytes(), linear_.segments);
      all += load;
    }
    if (!linear_.causal) {
      exchange += spread(linear_.state_bytes());
      all += loads_.from_last();
    }
    return overlapped(exchange, all, linear_.summary_bytes());
  }

  int rounds() const {
    return std::bit_width(
        static_cast<unsigned>(std::max(linear_.places, 1) - 1));
  }

  // Zigzag: places n and later go the other way round. What passes the turn
  // crosses the machine.
  Load log_step_load(int distance) const {
    const int n = loads_.ranks();
    const int back = linear_.segments / 2;
    if (distance >= n) return loads_.shift(n / 2, n) * std::max(back, 1);
    Load load = loads_.shift(distance, n) * (linear_.segments - back);
    if (back > 0) load += loads_.shift(n - distance, n) * back;
    return load;
  }

  const LinearCase& linear_;
  const Loads& loads_;
  LinearStages stages_;
  double brought_;  // of a decay that travels with an update, in bytes
};

}  // namespace

double LinearCase::state_bytes() const {
  return static_cast<double>(shape.state_numbers() * shape.sum_bytes());
}

double LinearCase::decay_bytes() const {
  return static_cast<double>(shape.decay_numbers() * shape.sum_bytes());
}

LinearStages linear_stages(const LinearCase& linear,
                           const DeviceTable& device_table, bool backward) {
  const ModelShape& shape = linear.shape;
  const auto tokens = static_cast<double>(shape.batch * linear.tokens);
  const auto keys = static_cast<double>(shape.state.key_dim);
  const auto values = static_cast<double>(shape.state.value_dim);
  const double ratio = backward ? kBackwardRatio : 1;
  const auto seconds = [&](std::int64_t heads, double flop_per_token) {
    return device_table.flop_seconds(ratio * static_cast<double>(heads) *
                                     tokens * flop_per_token);
  };
  // Products k vᵀ per state; per query head q kᵀ and (q kᵀ) v under a causal
  // mask of a chunk, then qᵀ S.
  return {seconds(shape.state.heads, 2 * keys * values),
          linear.causal
              ? seconds(shape.heads, schedule::kLinearChunk * (keys + values))
              : 0,
          seconds(shape.heads, 2 * keys * values)};
}

std::vector<ExchangeCost> exchange_costs(
    const LinearCase& linear,
    const std::vector<schedule::StateExchangePtr>& exchanges,
    const Loads& loads, const DeviceTable& device_table) {
  const ExchangeModel forward(linear, loads, device_table, false);
  const ExchangeModel backward(linear, loads, device_table, true);
  const int n = loads.ranks();
  std::vector<ExchangeCost> costs;
  if (n == 1) {
    costs.push_back({schedule::kDefaultStateExchange,
                     forward.overlapped(0, {}, 0),
                     backward.overlapped(0, {}, 0), 0});
    return costs;
  }
  for (const schedule::StateExchangePtr& exchange : exchanges) {
    ExchangeCost cost{.name = exchange->name(), .forward = {}, .backward = {}};
    if (auto reason = exchange->why_not(n)) {
      cost.why_not = std::move(*reason);
    } else {
      auto ahead = forward.pass(*exchange);
      auto back = backward.pass(*exchange);
      if (!ahead || !back) continue;
      cost.forward = std::move(*ahead);
      cost.backward = std::move(*back);
      cost.buffer_bytes = forward.buffer_bytes(*exchange);
    }
    costs.push_back(std::move(cost));
  }
  return costs;
}

double linear_bound(const LinearCase& linear, const DeviceTable& device_table,
                    double in_bytes_per_second, bool backward) {
  const LinearStages all = linear_stages(linear, device_table, backward);
  // The state that arrives first is of the correction only.
  return std::max(all.all(), linear.state_bytes() / in_bytes_per_second);
}

}  // namespace ringweave::planner
