#include "ringweave/planner/cost/modelled.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "ringweave/base/range.h"

namespace ringweave::planner {
namespace {

/// Of the rank of a group that has most, and on average: heads, or the bytes
/// that a rank sends to each other one on their behalf.
struct Share {
  double most = 0;
  double mean = 0;

  Share operator+(const Share& other) const {
    return {most + other.most, mean + other.mean};
  }
  Share operator*(double factor) const {
    return {most * factor, mean * factor};
  }
};

/// Time and the busiest link are those of the rank with most; totals are not.
Load scaled(const Load& one_byte, const Share& share) {
  Load load = one_byte * share.most;
  for (auto& [name, of_class] : load.bytes) {
    of_class.total *= share.mean / share.most;
  }
  return load;
}

class Model {
 public:
  Model(const EvenAttention& attention, const Loads& loads)
      : attention_(attention), shape_(attention.shape), loads_(loads) {}

  // From tokens to heads before, and back after.
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
    const Share heads = q_heads(n);
    const double slowest = heads.most / heads.mean;
    cost.forward = whole(n, slowest * attention_.forward_seconds,
                         q_bytes(n) + kv_bytes(n), q_bytes(n));
    cost.backward = whole(n, slowest * attention_.backward_seconds, q_bytes(n),
                          q_bytes(n) + kv_bytes(n));
    cost.buffer_bytes = 2 * n * (q_bytes(n) + kv_bytes(n)).most;
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
    const Share block = kv_bytes(group) * group;
    const auto ring = [&](double compute, const Share& bytes, int hops) {
      const double hop = attention_.message_overhead_seconds +
                         loads_.latency() + rail.seconds() * bytes.most;
      return hops * std::max(compute / phases, hop) +
             (phases - hops) * compute / phases;
    };
    const Share grads = block * (static_cast<double>(shape_.sum_bytes()) /
                                 static_cast<double>(shape_.value_bytes()));
    cost.forward =
        whole(group, 0, q_bytes(group) + kv_bytes(group), q_bytes(group));
    add_ring(cost.forward, ring(attention_.forward_seconds, block, phases - 1),
             attention_.forward_seconds, scaled(rail, block * (phases - 1)));
    cost.backward =
        whole(group, 0, q_bytes(group), q_bytes(group) + kv_bytes(group));
    add_ring(cost.backward,
             ring(attention_.backward_seconds, block + grads, phases - 1),
             attention_.backward_seconds,
             scaled(rail, (block + grads) * (phases - 1)));
    cost.buffer_bytes = 2 * group * (q_bytes(group) + kv_bytes(group)).most +
                        2 * block.most + 3 * grads.most;
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
  Range q_heads(int rank, int group) const {
    return cut({0, shape_.heads}, rank, group);
  }
  /// Heads are dealt out in order, as evenly as they can be.
  Share q_heads(int group) const {
    const auto heads = static_cast<double>(shape_.heads);
    return {std::ceil(heads / group), heads / group};
  }
  /// A rank gets those that its query heads use, so some go to several ranks.
  Share kv_heads(int group) const {
    Share heads;
    for (int rank = 0; rank < group; ++rank) {
      const Range q = q_heads(rank, group);
      const std::int64_t first = q.begin * shape_.kv_heads / shape_.heads;
      const std::int64_t last = (q.end - 1) * shape_.kv_heads / shape_.heads;
      const auto count = static_cast<double>(last - first + 1);
      heads.most = std::max(heads.most, count);
      heads.mean += count / group;
    }
    return heads;
  }
  double head_bytes() const {
    return attention_.tokens *
           static_cast<double>(shape_.batch * shape_.head_dim *
                               shape_.value_bytes());
  }
  /// To each other rank of a group.
  Share q_bytes(int group) const { return q_heads(group) * head_bytes(); }
  Share kv_bytes(int group) const {
    return kv_heads(group) * (2 * head_bytes());
  }

  PassCost whole(int group, double compute, const Share& in,
                 const Share& out) const {
    const Load load = scaled(loads_.pairs(group), in + out);
    const double posting =
        (group - 1) * attention_.message_overhead_seconds + loads_.latency();
    return {2 * posting + load.seconds() + compute, compute, load.bytes};
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

}  // namespace ringweave::planner
