#include "ringweave/plan/closed_form.h"

#include <algorithm>

#include "ringweave/base/error.h"

namespace ringweave::plan {
namespace {

/// Steps that are all alike.
struct Phase {
  double repeat = 1;
  double compute = 0;
  Load load = {};       ///< of the bytes that travel
  double messages = 0;  ///< that a rank sends
};

class Formula {
 public:
  Formula(const Loads& loads, const BalancedPass& pass)
      : loads_(loads), pass_(pass) {}

  void add(const Phase& phase) {
    if (phase.repeat <= 0) return;
    const double posting = phase.messages * pass_.message_overhead_seconds;
    const double transfer =
        phase.messages > 0 ? posting + loads_.latency() + phase.load.seconds()
                           : 0;
    cost_.seconds += phase.repeat * std::max(posting + phase.compute, transfer);
    cost_.compute_seconds += phase.repeat * phase.compute;
    bytes_ += phase.load * phase.repeat;
  }

  PassCost finish() {
    cost_.bytes = bytes_.bytes;
    return cost_;
  }

 private:
  const Loads& loads_;
  const BalancedPass& pass_;
  PassCost cost_;
  Load bytes_;
};

// Blocks that walk: `hop` is the load of one byte of every shard, all strands
// together, going one hop; a rank then sends `strands` messages.
PassCost walk_form(const Loads& loads, const BalancedPass& pass,
                   const Load& hop, int strands) {
  Formula formula(loads, pass);
  const int n = loads.ranks();
  const Load kv = hop * pass.kv_bytes;
  const double block = pass.block_seconds;
  if (pass.pass == Pass::forward) {
    formula.add({1, pass.own_seconds, kv, 1.0 * strands});
    formula.add({n - 2.0, block, kv, 1.0 * strands});
    formula.add({1, block});
    return formula.finish();
  }
  const Load grad = hop * pass.grad_bytes;
  Load both = kv;
  both += grad;
  if (n == 2) {
    formula.add({1, block});
  } else {
    formula.add({1, block, kv, 1.0 * strands});
    formula.add({n - 3.0, block, both, 2.0 * strands});
    formula.add({1, block, grad, 1.0 * strands});
  }
  formula.add({1, pass.own_seconds, grad, 1.0 * strands});
  return formula.finish();
}

PassCost direct_form(const Loads& loads, const BalancedPass& pass,
                     int strands) {
  Formula formula(loads, pass);
  const double others = loads.ranks() - 1;
  const Load strand = loads.pairs(loads.ranks()) * (1.0 / strands);
  const double strand_seconds = others * pass.block_seconds / strands;
  const int steps = strands + (pass.pass == Pass::forward ? 1 : 2);
  // Steps in the middle are alike; only the ends are told apart.
  for (int step = 0; step < steps; ++step) {
    const bool middle = step >= 2 && step < strands;
    if (middle && step > 2) continue;
    Phase phase{.repeat = middle ? strands - 2.0 : 1};
    if (step < strands) {
      phase.load += strand * pass.kv_bytes;
      phase.messages += others;
    }
    if (pass.pass == Pass::backward && step >= 2) {
      phase.load += strand * pass.grad_bytes;
      phase.messages += others;
    }
    if (step == 0) phase.compute = pass.own_seconds;
    if (step > 0 && step <= strands) phase.compute = strand_seconds;
    formula.add(phase);
  }
  return formula.finish();
}

PassCost all_gather_form(const Loads& loads, const BalancedPass& pass) {
  Formula formula(loads, pass);
  const double others = loads.ranks() - 1;
  const Load all = loads.pairs(loads.ranks());
  const double foreign = others * pass.block_seconds;
  if (pass.pass == Pass::forward) {
    formula.add({1, 0, all * pass.kv_bytes, others});
    formula.add({1, pass.own_seconds + foreign});
  } else {
    formula.add({1, foreign});
    formula.add({1, pass.own_seconds, all * pass.grad_bytes, others});
  }
  return formula.finish();
}

double slices_of(const Strategy& strategy) {
  if (strategy.kind == StrategyKind::double_ring) return 1;
  return strategy.slices > 0 ? strategy.slices : kDefaultSlices;
}

bool is_direct_inside(const Strategy& strategy) {
  return strategy.kind == StrategyKind::hierarchical &&
         strategy.inner == StrategyKind::direct;
}

// Slices of shards go round the nodes on rails, and are spread inside a node
// while the next ones travel; the last slice's spread is exposed.
PassCost nodes_form(const Strategy& strategy, const Loads& loads,
                    const BalancedPass& pass) {
  Formula formula(loads, pass);
  const int n = loads.ranks();
  const double nodes = strategy.nodes;
  const int m = n / strategy.nodes;
  const bool backward = pass.pass == Pass::backward;
  const bool ring = strategy.kind == StrategyKind::double_ring ||
                    strategy.inner == StrategyKind::ring;
  const bool direct = is_direct_inside(strategy);
  const double slices = slices_of(strategy);
  const double bytes =
      (pass.kv_bytes + (backward ? pass.grad_bytes : 0)) / slices;
  // Backward keeps the last node's shard: one hop of keys and values less.
  const double rail_bytes =
      backward ? (pass.grad_bytes +
                  pass.kv_bytes * (nodes - 2) / std::max(1.0, nodes - 1)) /
                     slices
               : bytes;
  const double inner_steps = m == 1 ? 0 : direct ? 1 : m - 1;
  Load inner;
  if (m > 1)
    inner = ring ? loads.shift(1, m) : loads.pairs(m) * (1 / (m - 1.0));
  if (direct && m > 1) inner = loads.pairs(m);
  Load spread = inner * (bytes * inner_steps);
  const double messages = (ring ? 1 : m - 1) * inner_steps;
  const double compute = m * pass.block_seconds / slices;
  // Turns of a rail's slice, beside which slices are spread; what is spread in
  // a turn is computed in the next.
  const Load rail = nodes > 1 ? loads.shift(m, n) * rail_bytes : Load{};
  const auto turns = [&](double repeat, double computed, double spreads) {
    Load load = spread * spreads;
    load += rail;
    formula.add({repeat, computed * compute, load,
                 spreads * messages + (nodes > 1 ? 1 : 0)});
  };
  const double own =
      compute > 0 ? (pass.own_seconds - pass.block_seconds) / compute : 0;
  if (nodes == 1 || backward) {
    turns((nodes - 1) * slices, 1, 1);
    formula.add({slices - 1, compute, spread, messages});
    formula.add({1, own * compute, spread, messages});
  } else {
    // The own node's slices are spread in the first turns, too.
    turns(1, own, 1);
    turns(slices - 1, 2, 2);
    turns((nodes - 2) * slices, 1, 1);
    formula.add({1, compute, spread, messages});
  }
  formula.add({1, compute});
  return formula.finish();
}

bool has_nodes(const Strategy& strategy) {
  return strategy.kind == StrategyKind::double_ring ||
         strategy.kind == StrategyKind::hierarchical;
}

/// The load of one byte of every shard going one hop; nullopt: no form.
std::optional<Load> hop_load(const Strategy& strategy, const Loads& loads) {
  const int n = loads.ranks();
  switch (strategy.kind) {
    case StrategyKind::ring:
      return loads.shift(strategy.reverse ? n - 1 : 1, n);
    case StrategyKind::multi_ring:
    case StrategyKind::time_varying_multi_ring:
      return loads.pairs(n) * (1.0 / (n - 1));
    case StrategyKind::paths: {
      // Each strand uses a Hamiltonian path of every node, and one hop between
      // nodes: all strands together every link once, and each rail once.
      const int m = n / strategy.nodes;
      Load load = loads.pairs(m) * (1.0 / m);
      load += loads.shift(m, n) * (1.0 / m);
      return load;
    }
    case StrategyKind::rings: {
      if (loads.symbolic()) return std::nullopt;
      std::vector<std::pair<Rank, Rank>> hops;
      for (const topology::Ring& ring : *strategy.rings) {
        for (const Rank rank : ring.order()) {
          hops.emplace_back(rank, ring.after(rank, 1));
        }
      }
      return loads.messages(hops) *
             (1.0 / static_cast<double>(strategy.rings->size()));
    }
    case StrategyKind::direct:
    case StrategyKind::all_gather:
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical:
    case StrategyKind::synthesised:
      break;
  }
  return std::nullopt;
}

/// A rank's buffers in shards of keys and values, and of gradients.
struct Buffers {
  double kv = 0;
  double grad = 0;
  double retained_kv = 0;
};

Buffers buffers(const Strategy& strategy, const BalancedPass& pass, int n,
                int strands) {
  const double others = n - 1;
  const bool backward = pass.pass == Pass::backward;
  switch (strategy.kind) {
    case StrategyKind::direct: {
      const double turns = std::min(2, strands);
      const double slots = turns * others / strands;
      return {slots, backward ? slots + others / strands : 0, 0};
    }
    case StrategyKind::all_gather:
      return {others, backward ? 2 * others : 0, others};
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical: {
      // Slices on the rail, and sets of what is being spread, per peer with
      // direct (hierarchical_schedule.h); of three nodes or more.
      const double k = slices_of(strategy);
      const double rail = (k + 1) / k;
      const double spread =
          (is_direct_inside(strategy) ? n / strategy.nodes - 1 : 1) / k;
      if (backward) return {rail + 2 * spread, 2 * rail + 3 * spread, 1};
      return {rail + (k > 1 ? 4 : 3) * spread, 0, 1};
    }
    case StrategyKind::ring:
    case StrategyKind::multi_ring:
    case StrategyKind::time_varying_multi_ring:
    case StrategyKind::paths:
    case StrategyKind::rings:
    case StrategyKind::synthesised:
      break;
  }
  if (n == 2) return {1, backward ? 2.0 : 0, 1};
  return {2, backward ? 3.0 : 0, 1};
}

}  // namespace

std::optional<ClosedForm> closed_form(const Strategy& strategy,
                                      const Loads& loads,
                                      const BalancedPass& pass) {
  const int n = loads.ranks();
  if (n == 1) {
    Formula formula(loads, pass);
    formula.add({1, pass.own_seconds});
    return ClosedForm{formula.finish(), 0, 0};
  }
  const int strands = strand_count(strategy, n);
  ClosedForm form;
  if (strategy.kind == StrategyKind::direct) {
    form.cost = direct_form(loads, pass, strands);
  } else if (strategy.kind == StrategyKind::all_gather) {
    form.cost = all_gather_form(loads, pass);
  } else if (has_nodes(strategy)) {
    form.cost = nodes_form(strategy, loads, pass);
  } else if (const auto hop = hop_load(strategy, loads)) {
    form.cost = walk_form(loads, pass, *hop, strands);
  } else {
    return std::nullopt;
  }
  const Buffers shards = buffers(strategy, pass, n, strands);
  form.slot_bytes = shards.kv * pass.kv_bytes + shards.grad * pass.grad_bytes;
  form.retained_bytes = shards.retained_kv * pass.kv_bytes;
  return form;
}

}  // namespace ringweave::plan
