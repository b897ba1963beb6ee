#include "ringweave/planner/cost/closed_form.h"

#include <algorithm>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

int divide_up(int a, int b) { return (a + b - 1) / b; }

/// Steps that are all alike.
struct Phase {
  double repeat = 1;
  double compute = 0;
  Load load = {};       ///< of the bytes that travel
  double messages = 0;  ///< that a rank sends
  /// From posting the first to the last one's end, without latency; 0: posting
  /// and then the busiest link's load, as the last messages that are posted may
  /// share a link.
  double transfer = 0;
  std::optional<double> latency = {};  ///< if not the slowest route's
};

class Formula {
 public:
  Formula(const Loads& loads, const BalancedPass& pass)
      : loads_(loads), pass_(pass) {}

  void add(const Phase& phase) {
    if (phase.repeat <= 0) return;
    const double posting = phase.messages * pass_.message_overhead_seconds;
    double transfer = 0;
    if (phase.messages > 0) {
      transfer = phase.latency.value_or(loads_.latency()) +
                 (phase.transfer > 0 ? phase.transfer
                                     : posting + phase.load.seconds());
    }
    cost_.seconds += phase.repeat * std::max(posting + phase.compute, transfer);
    cost_.compute_seconds += phase.repeat * phase.compute;
    bytes_ += phase.load * phase.repeat;
  }

  double now() const { return cost_.seconds; }
  void wait_until(double seconds) {
    cost_.seconds = std::max(cost_.seconds, seconds);
  }
  /// What travels meanwhile, as a message of each rank.
  void send_aside(const Load& load) {
    cost_.seconds += pass_.message_overhead_seconds;
    bytes_ += load;
  }

  /// Links that carry both what steps wait for and what travels aside may be
  /// the busiest ones.
  PassCost finish() {
    wait_until(bytes_.seconds());
    cost_.bytes = bytes_.bytes;
    cost_.link_seconds = bytes_.seconds();
    return cost_;
  }

 private:
  const Loads& loads_;
  const BalancedPass& pass_;
  PassCost cost_;
  Load bytes_;
};

// Messages per hop of a strand that walks over n ranks. Under a causal mask on
// zigzag shards a rank sees the two parts of a block alike if it comes before
// the owner; let x be the share of such ranks. A message of both parts is cut
// in two unless both of its ends are such ranks (outline.h). Of many ranks the
// mean of 1 - x² over all owners is 2/3. Of few ranks it is less, as the back
// part is dropped before the end of the walk. (Counted for 2 to 64 ranks, the
// formula is off by 0.03 at most.)
double messages_of_hop(const BalancedPass& pass, int n) {
  return pass.least_need < 1 ? 1 + 2.0 / 3 * (n - 2) / (n + 2) : 1;
}

// Blocks that walk: `hop` is the load of one byte of every shard, all strands
// together, going one hop; a rank then sends `strands` messages. `again`: how
// long backward waits in each step for what its owner sends again.
PassCost walk_form(const Loads& loads, const BalancedPass& pass,
                   const Load& hop, int strands, double again) {
  Formula formula(loads, pass);
  const double messages = strands * messages_of_hop(pass, loads.ranks());
  const int n = loads.ranks();
  const Load kv = hop * pass.kv_bytes;
  const double block = pass.block_seconds;
  if (pass.pass == schedule::Pass::forward) {
    formula.add({1, pass.own_seconds, kv, messages});
    formula.add({n - 2.0, block, kv, messages});
    formula.add({1, block});
    return formula.finish();
  }
  const Load grad = hop * pass.grad_bytes;
  Load both = kv;
  both += grad;
  if (n == 2) {
    formula.add({1, block});
  } else {
    const auto hops = [&](double repeat, const Load& load, double sent) {
      const double transfer =
          sent * pass.message_overhead_seconds + load.seconds() + again;
      formula.add({repeat, block, load, sent, transfer});
    };
    hops(1, kv, messages);
    hops(n - 3.0, both, 2 * messages);
    formula.add({1, block, grad, messages});
  }
  formula.add({1, pass.own_seconds, grad, messages});
  return formula.finish();
}

// Messages straight to every other rank: all ranks post that to rank 0 first,
// then that to rank 1, ….
class AllPairs {
 public:
  AllPairs(const Loads& loads, const BalancedPass& pass)
      : others_(loads.ranks() - 1),
        all_(loads.pairs(loads.ranks())),
        one_(loads.shift(1, loads.ranks()).seconds()),
        least_(pass.least_need),
        overhead_(pass.message_overhead_seconds) {}

  double others() const { return others_; }

  /// Every rank sends `kv` and `grad` bytes to each other rank, less what the
  /// mask saves. The rank that needs the fewest keys receives the share least_
  /// of the others' keys, but all gradients of its own: every other rank needs
  /// its keys. Another rank sends all its keys, but only the share least_ of
  /// gradients. The message to the last rank starts when all others have been
  /// posted. While a rank posts, half of its messages are under way on average.
  void ask(Phase& phase, double kv, double grad) const {
    phase.messages += others_ * ((kv > 0 ? 1 : 0) + (grad > 0 ? 1 : 0));
    const double received = least_ * kv + grad;
    const double sent = kv + least_ * grad;
    phase.load += all_ * std::max(received, sent);
    const double posting = phase.messages * overhead_;
    const double all = all_.seconds();
    phase.transfer =
        std::max({posting + one_ * std::max(kv, grad), posting + all * received,
                  posting / 2 + all * sent});
  }

 private:
  double others_;
  Load all_;    // of one byte to each
  double one_;  // of a byte to the next rank alone
  double least_;
  double overhead_;
};

PassCost direct_form(const Loads& loads, const BalancedPass& pass,
                     int strands) {
  Formula formula(loads, pass);
  const AllPairs pairs(loads, pass);
  const double strand_seconds = pairs.others() * pass.block_seconds / strands;
  const int steps = strands + (pass.pass == schedule::Pass::forward ? 1 : 2);
  // Steps in the middle are alike; only the ends are told apart.
  for (int step = 0; step < steps; ++step) {
    const bool middle = step >= 2 && step < strands;
    if (middle && step > 2) continue;
    Phase phase{.repeat = middle ? strands - 2.0 : 1};
    const bool sends = step < strands;
    const bool returns = pass.pass == schedule::Pass::backward && step >= 2;
    if (sends || returns) {
      pairs.ask(phase, sends ? pass.kv_bytes / strands : 0,
                returns ? pass.grad_bytes / strands : 0);
    }
    if (step == 0) phase.compute = pass.own_seconds;
    if (step > 0 && step <= strands) phase.compute = strand_seconds;
    formula.add(phase);
  }
  return formula.finish();
}

PassCost all_gather_form(const Loads& loads, const BalancedPass& pass) {
  Formula formula(loads, pass);
  const AllPairs pairs(loads, pass);
  const double foreign = pairs.others() * pass.block_seconds;
  Phase sends;
  if (pass.pass == schedule::Pass::forward) {
    pairs.ask(sends, pass.kv_bytes, 0);
    formula.add(sends);
    formula.add({1, pass.own_seconds + foreign});
  } else {
    formula.add({1, foreign});
    sends.compute = pass.own_seconds;
    pairs.ask(sends, 0, pass.grad_bytes);
    formula.add(sends);
  }
  return formula.finish();
}

/// The sizes of a schedule over nodes (hierarchical_schedule.h).
struct Nodes {
  Nodes(const schedule::Strategy& strategy, int ranks)
      : nodes(strategy.nodes), m(ranks / strategy.nodes) {
    if (strategy.kind == schedule::StrategyKind::hierarchical) {
      slices = strategy.slices > 0 ? strategy.slices : schedule::kDefaultSlices;
      inner = strategy.inner;
    }
  }
  bool direct() const { return inner == schedule::StrategyKind::direct; }
  int spread_steps() const { return direct() ? 1 : std::max(1, m - 1); }
  /// Inner walks.
  int strands() const {
    return direct() || inner == schedule::StrategyKind::ring
               ? 1
               : std::max(1, m - 1);
  }
  /// The load of one byte of every shard in one step of its spread.
  Load hop(const Loads& loads) const {
    if (m == 1) return {};
    if (direct()) return loads.pairs(m);
    if (inner == schedule::StrategyKind::ring) return loads.shift(1, m);
    return loads.pairs(m) * (1 / (m - 1.0));
  }
  /// Of a spread; of `own` blocks, those of the node's own ranks, or of others,
  /// whose parts all ranks of the node see alike.
  double hop_messages(const BalancedPass& pass, bool own) const {
    if (m == 1) return 0;
    if (direct()) return m - 1;
    return strands() * (own ? messages_of_hop(pass, m) : 1);
  }
  double latency(const Loads& loads) const { return loads.latency(m); }
  /// Of one byte of every shard, a message of a spread alone.
  double one_message(const Loads& loads) const {
    return m == 1 ? 0 : loads.shift(1, m).seconds() / strands();
  }
  Load rail(const Loads& loads) const {
    return nodes > 1 ? loads.shift(m, nodes * m) : Load{};
  }

  int nodes, m;
  int slices = 1;
  schedule::StrategyKind inner = schedule::StrategyKind::ring;
};

// Slices of shards go round the nodes on rails, and are spread inside a node
// while the next ones travel; the last slice's spread is exposed.
//
// Ranks in lockstep post to peers in the same order, so the last peer's port
// receives everything at once, when all is posted: a step of a spread takes
// posting + load. Ranks that are apart post while others' messages move: the
// step takes the longer of the two. Full masks keep ranks in lockstep. Causal
// ones give ranks unequal bytes, and they drift apart: about half of what can
// overlap does. (Measured, the mean of both times is within a few percent.)
PassCost nodes_forward(const Nodes& nodes, const Loads& loads,
                       const BalancedPass& pass) {
  Formula formula(loads, pass);
  const double u = nodes.nodes, slices = nodes.slices;
  const double bytes = pass.kv_bytes / slices;
  const double steps = nodes.m == 1 ? 0 : nodes.spread_steps();
  const Load hop = nodes.hop(loads) * bytes;
  const double overhead = pass.message_overhead_seconds;
  const double compute = nodes.m * pass.block_seconds / slices;
  const Load rail = nodes.rail(loads) * bytes;
  // Turns, in each of which a slice goes over the rail from the first step on,
  // while slices hop from step to step inside; what is spread in a turn is
  // computed in the next.
  const auto turns = [&](double repeat, double computed, int own_spreads,
                         int other_spreads, bool uses_rail) {
    const double spreads = own_spreads + other_spreads;
    Phase turn{.repeat = repeat, .compute = computed * compute};
    turn.load = hop * (spreads * steps);
    const double hops = own_spreads * nodes.hop_messages(pass, true) +
                        other_spreads * nodes.hop_messages(pass, false);
    turn.messages = hops * steps;
    turn.latency = 0;  // each of the two has its own
    const double posting = hops * overhead;
    const double load = spreads * hop.seconds();
    turn.transfer = posting + load;
    if (pass.least_need < 1 && hops > 0) {
      const double one = nodes.one_message(loads) * bytes;
      turn.transfer += std::max(posting + one, overhead + load);
      turn.transfer /= 2;
    }
    turn.transfer = steps * (turn.transfer + nodes.latency(loads));
    if (uses_rail) {
      turn.load += rail;
      turn.messages += 1;
      turn.transfer =
          std::max(turn.transfer + overhead,
                   (hops + 1) * overhead + rail.seconds() + loads.latency());
    }
    formula.add(turn);
  };
  const double own =
      compute > 0 ? (pass.own_seconds - pass.block_seconds) / compute : 0;
  if (u == 1) {
    turns(slices - 1, 1, 1, 0, false);
    turns(1, own, 1, 0, false);
  } else {
    // The own node's slices are spread in the first turns, too.
    turns(1, own, 1, 0, true);
    turns(slices - 1, 2, 1, 1, true);
    turns((u - 2) * slices, 1, 0, 1, true);
    turns(1, 1, 0, 1, false);
  }
  formula.add({1, compute});
  return formula.finish();
}

// Messages of a rank's rail, one after another, each of which has to have
// arrived by some step.
class Rail {
 public:
  explicit Rail(int steps) : due_(steps + 1) {}

  void post(double now, double seconds, double latency, int wait_step) {
    if (seconds <= 0) return;
    free_ = std::max(free_, now) + seconds;
    double& due = due_[std::min(wait_step, static_cast<int>(due_.size()) - 1)];
    due = std::max(due, free_ + latency);
  }
  double due(int step) const { return due_[step]; }

 private:
  double free_ = 0;
  std::vector<double> due_;
};

// Step by step as one rank goes through it, with the steps of
// hierarchical_turns.cpp: the rail works on while slices are spread.
PassCost nodes_backward(const Nodes& nodes, const Loads& loads,
                        const BalancedPass& pass) {
  const int u = nodes.nodes, m = nodes.m, k = nodes.slices;
  const int turn = nodes.spread_steps(), slack = divide_up(k, 2) * turn;
  const int spread_end = u * k * turn, end = spread_end + 2;
  const Load hop = nodes.hop(loads), rail_load = nodes.rail(loads);
  const double block = pass.block_seconds / k;
  const double kv = pass.kv_bytes / k, grad = pass.grad_bytes / k;
  Formula formula(loads, pass);
  Rail rail(end);
  for (int step = 0; step < end; ++step) {
    formula.wait_until(rail.due(step));
    const auto post = [&](double bytes, int wait_step) {
      const Load load = rail_load * bytes;
      rail.post(formula.now(), load.seconds(), loads.latency(), wait_step);
      formula.send_aside(load);
    };
    const bool turns = step % turn == 0;
    if (turns && step < (u - 2) * k * turn) post(kv, step + slack);
    const int sum = step - turn - 2;
    if (sum >= 0 && sum % turn == 0 && sum < (u - 1) * k * turn) {
      const bool last = sum >= (u - 2) * k * turn;
      post(grad, step + k * turn + (last ? slack : 0));
    }
    Phase phase{.latency = nodes.latency(loads)};
    const bool own = step >= spread_end - k * turn;
    if (turns && step < spread_end && !own) phase.compute += block;
    if (step == end - 1) phase.compute += pass.own_seconds;
    const double peers = m == 1 ? 0 : nodes.direct() ? m - 1 : 1;
    if (step > 0 && step <= spread_end) phase.compute += peers * block;
    if (step < spread_end) {
      phase.load += hop * kv;
      phase.messages += nodes.hop_messages(pass, own);
    }
    if (step >= 2) {
      phase.load += hop * grad;
      phase.messages += nodes.hop_messages(pass, own);
    }
    formula.add(phase);
  }
  formula.wait_until(rail.due(end));
  return formula.finish();
}

bool has_nodes(const schedule::Strategy& strategy) {
  return strategy.kind == schedule::StrategyKind::double_ring ||
         strategy.kind == schedule::StrategyKind::hierarchical;
}

/// The load of one byte of every shard going one hop; nullopt: no form.
std::optional<Load> hop_load(const schedule::Strategy& strategy,
                             const Loads& loads) {
  const int n = loads.ranks();
  switch (strategy.kind) {
    case schedule::StrategyKind::ring:
      return loads.shift(strategy.reverse ? n - 1 : 1, n);
    case schedule::StrategyKind::multi_ring:
    case schedule::StrategyKind::time_varying_multi_ring:
      return loads.pairs(n) * (1.0 / (n - 1));
    case schedule::StrategyKind::paths: {
      // Each strand uses a Hamiltonian path of every node, and one hop between
      // nodes: all strands together every link once, and each rail once.
      const int m = n / strategy.nodes;
      Load load = loads.pairs(m) * (1.0 / m);
      load += loads.shift(m, n) * (1.0 / m);
      return load;
    }
    case schedule::StrategyKind::rings: {
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
    case schedule::StrategyKind::direct:
    case schedule::StrategyKind::all_gather:
    case schedule::StrategyKind::double_ring:
    case schedule::StrategyKind::hierarchical:
    case schedule::StrategyKind::synthesised:
      break;
  }
  return std::nullopt;
}

// Backward, a part that the mask cuts short is sent again by its owner
// (walk_schedule.h): with strands over every link in most steps over some link
// that carries a strand as well. Of the ranks one then posts about three.
double sent_again(const schedule::Strategy& strategy, const Loads& loads,
                  const BalancedPass& pass, int strands) {
  const bool everywhere =
      strategy.kind == schedule::StrategyKind::multi_ring ||
      strategy.kind == schedule::StrategyKind::time_varying_multi_ring;
  if (!everywhere || pass.least_need == 1) return 0;
  const double one = loads.shift(1, loads.ranks()).seconds() / strands;
  return 3 * pass.message_overhead_seconds +
         (1 - pass.least_need) * one * pass.kv_bytes;
}

/// A rank's slots in shards of keys and values, and of gradients; and what it
/// retains, which lies apart.
struct Buffers {
  double kv = 0;
  double grad = 0;
  double retained_kv = 0;
};

// In slices: those on the rail but the last node's, which are retained; and
// sets of what is being spread, per peer with direct (hierarchical_turns.cpp).
Buffers nodes_buffers(const Nodes& nodes, bool backward) {
  const int k = nodes.slices;
  const double spread = nodes.direct() ? nodes.m - 1 : 1;
  const double retained = nodes.nodes > 1 ? 1 : 0;
  const int passing = std::max(0, nodes.nodes - 2) * k;
  if (!backward) {
    const int own = std::min(2, k * nodes.spread_steps());
    const double rail = std::min(passing, k + 1);
    return {(rail + (own + 2) * spread) / k, 0, retained};
  }
  const int foreign = (nodes.nodes - 1) * k;
  const int rail = std::min(passing, k + divide_up(k, 2));
  const int sums =
      std::min(foreign, k + 1 + divide_up(2, nodes.spread_steps()) + k / 4);
  // At holders, and along walks of two hops or more.
  const double staging = k + (nodes.direct() || nodes.m == 2 ? 1 : 2) * spread;
  return {(rail + 2 * spread) / k, (sums + staging + 2 * spread) / k, retained};
}

Buffers buffers(const schedule::Strategy& strategy, const BalancedPass& pass,
                int n, int strands) {
  const double others = n - 1;
  const bool backward = pass.pass == schedule::Pass::backward;
  switch (strategy.kind) {
    case schedule::StrategyKind::direct: {
      const double turns = std::min(2, strands);
      const double slots = turns * others / strands;
      return {slots, backward ? slots + others / strands : 0, 0};
    }
    case schedule::StrategyKind::all_gather:
      return {0, backward ? 2 * others : 0, others};
    case schedule::StrategyKind::double_ring:
    case schedule::StrategyKind::hierarchical:
      return nodes_buffers(Nodes(strategy, n), backward);
    case schedule::StrategyKind::ring:
    case schedule::StrategyKind::multi_ring:
    case schedule::StrategyKind::time_varying_multi_ring:
    case schedule::StrategyKind::paths:
    case schedule::StrategyKind::rings:
    case schedule::StrategyKind::synthesised:
      break;
  }
  // The last rank of a walk retains; slots are of those between it and the
  // owner.
  const double between = std::min(2.0, n - 2.0);
  return {between, backward ? std::min(3.0, 1.0 * n) : 0, 1};
}

}  // namespace

std::optional<ClosedForm> closed_form(const schedule::Strategy& strategy,
                                      const Loads& loads,
                                      const BalancedPass& pass) {
  const int n = loads.ranks();
  if (n == 1) {
    Formula formula(loads, pass);
    formula.add({1, pass.own_seconds});
    return ClosedForm{formula.finish(), 0, 0};
  }
  const int strands = schedule::strand_count(strategy, n);
  ClosedForm form;
  if (strategy.kind == schedule::StrategyKind::direct) {
    form.cost = direct_form(loads, pass, strands);
  } else if (strategy.kind == schedule::StrategyKind::all_gather) {
    form.cost = all_gather_form(loads, pass);
  } else if (has_nodes(strategy)) {
    const Nodes nodes(strategy, n);
    form.cost = pass.pass == schedule::Pass::forward
                    ? nodes_forward(nodes, loads, pass)
                    : nodes_backward(nodes, loads, pass);
  } else if (const auto hop = hop_load(strategy, loads)) {
    form.cost = walk_form(loads, pass, *hop, strands,
                          sent_again(strategy, loads, pass, strands));
  } else {
    return std::nullopt;
  }
  const Buffers shards = buffers(strategy, pass, n, strands);
  form.slot_bytes = shards.kv * pass.kv_bytes + shards.grad * pass.grad_bytes;
  form.retained_bytes = shards.retained_kv * pass.kv_bytes;
  return form;
}

}  // namespace ringweave::planner
