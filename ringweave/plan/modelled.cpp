#include "ringweave/plan/modelled.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

namespace ringweave::plan {
namespace {

class Model {
 public:
  Model(const EvenAttention& attention, const Loads& loads)
      : attention_(attention), shape_(attention.shape), loads_(loads) {}

  // From tokens to heads before, and back after. Key and value heads that are
  // fewer than ranks go to several.
  ModelledCost ulysses() const {
    const int n = loads_.ranks();
    ModelledCost cost{.name = "ulysses", .forward = {}, .backward = {}};
    if (shape_.heads < n) {
      cost.why_not = fmt::format(
          "ulysses: got {} heads; want at least {}, one "
          "for each rank",
          shape_.heads, n);
      return cost;
    }
    const double slowest = std::ceil(shape_.heads / (1.0 * n)) * n /
                           static_cast<double>(shape_.heads);
    cost.forward = whole(n, slowest * attention_.forward_seconds,
                         q_bytes(n) + kv_bytes(n), q_bytes(n));
    cost.backward = whole(n, slowest * attention_.backward_seconds, q_bytes(n),
                          q_bytes(n) + kv_bytes(n));
    cost.buffer_bytes = n * (2 * q_bytes(n) + 2 * kv_bytes(n));
    return cost;
  }

  ModelledCost two_dimensional() const {
    const int n = loads_.ranks();
    const auto group = static_cast<int>(std::gcd<std::int64_t>(
        shape_.heads, std::int64_t{loads_.ranks_per_node()}));
    ModelledCost cost{.name = fmt::format("ulysses_ring:group={}", group),
                      .forward = {},
                      .backward = {}};
    if (group == 1 || group == n) {
      cost.why_not = fmt::format(
          "ulysses_ring: got {} heads and {} ranks per node of {}; want a "
          "common divisor that is neither 1 nor all ranks",
          shape_.heads, loads_.ranks_per_node(), n);
      return cost;
    }
    const int phases = n / group;
    const Load rail = loads_.shift(group, n);
    const double block = kv_bytes(group) * group;
    const auto ring = [&](double compute, double bytes, int hops) {
      const double hop = attention_.message_overhead_seconds +
                         loads_.latency() + rail.seconds() * bytes;
      return hops * std::max(compute / phases, hop) +
             (phases - hops) * compute / phases;
    };
    const double grads = block * static_cast<double>(shape_.sum_bytes()) /
                         static_cast<double>(shape_.value_bytes());
    cost.forward =
        whole(group, 0, q_bytes(group) + kv_bytes(group), q_bytes(group));
    add_ring(cost.forward, ring(attention_.forward_seconds, block, phases - 1),
             attention_.forward_seconds, rail * (block * (phases - 1)));
    cost.backward =
        whole(group, 0, q_bytes(group), q_bytes(group) + kv_bytes(group));
    add_ring(cost.backward,
             ring(attention_.backward_seconds, block + grads, phases - 1),
             attention_.backward_seconds,
             rail * ((block + grads) * (phases - 1)));
    cost.buffer_bytes = group * (2 * q_bytes(group) + 2 * kv_bytes(group)) +
                        2 * block + 3 * grads;
    return cost;
  }

  // Queries go round with their growing outputs and lse.
  ModelledCost pass_q() const {
    const int n = loads_.ranks();
    const auto heads = static_cast<double>(shape_.batch * shape_.heads);
    const auto dim = static_cast<double>(shape_.head_dim);
    const auto sum = static_cast<double>(shape_.sum_bytes());
    const double query = attention_.tokens * heads * dim *
                         static_cast<double>(shape_.value_bytes());
    const double result = attention_.tokens * heads * (dim + 1) * sum;
    const Load next = loads_.shift(1, n);
    const double hop = attention_.message_overhead_seconds + loads_.latency() +
                       next.seconds() * (query + result);
    ModelledCost cost{.name = "pass_q", .forward = {}, .backward = {}};
    cost.forward.seconds =
        (n - 1) * std::max(attention_.forward_seconds / n, hop) +
        attention_.forward_seconds / n +
        // The result's last hop, to the owner of the queries.
        attention_.message_overhead_seconds + loads_.latency() +
        next.seconds() * result;
    cost.forward.compute_seconds = attention_.forward_seconds;
    cost.forward.bytes = (next * ((query + result) * (n - 1) + result)).bytes;
    cost.has_backward = false;
    cost.buffer_bytes = 2 * (query + result);
    return cost;
  }

 private:
  /// To each other rank of a group.
  double q_bytes(int group) const {
    return attention_.tokens *
           static_cast<double>(shape_.batch * shape_.heads * shape_.head_dim *
                               shape_.value_bytes()) /
           group;
  }
  double kv_bytes(int group) const {
    const double heads =
        std::max(1.0, static_cast<double>(shape_.kv_heads) / group);
    return 2 * attention_.tokens * heads *
           static_cast<double>(shape_.batch * shape_.head_dim *
                               shape_.value_bytes());
  }

  PassCost whole(int group, double compute, double in, double out) const {
    const Load all = loads_.pairs(group);
    const double posting =
        (group - 1) * attention_.message_overhead_seconds + loads_.latency();
    return {2 * posting + all.seconds() * (in + out) + compute, compute,
            (all * (in + out)).bytes};
  }

  static void add_ring(PassCost& cost, double seconds, double compute,
                       const Load& load) {
    cost.seconds += seconds;
    cost.compute_seconds += compute;
    for (const auto& [name, of_class] : load.bytes) {
      cost.bytes[name].total += of_class.total;
      cost.bytes[name].busiest += of_class.busiest;
    }
  }

  const EvenAttention& attention_;
  const ModelShape& shape_;
  const Loads& loads_;
};

}  // namespace

std::vector<ModelledCost> modelled_costs(const EvenAttention& attention,
                                         const Loads& loads) {
  if (loads.ranks() == 1) return {};
  const Model model(attention, loads);
  return {model.ulysses(), model.two_dimensional(), model.pass_q()};
}

}  // namespace ringweave::plan
