#include "ringweave/comm/local_ranks.h"

#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "ringweave/comm/delayed.h"
#include "ringweave/comm/local_transport.h"

namespace ringweave::comm {
namespace {

struct Outcomes {
  std::vector<std::exception_ptr> errors;  ///< per rank
  std::vector<Rank> order;                 ///< in which the ranks failed
  std::optional<Rank> marked;
};

/// A stalled rank fails last, and a CommError is often a consequence.
enum class Evidence { stalled, comm_error, other };

Evidence evidence(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const CommError&) {
    return Evidence::comm_error;
  } catch (const InjectedFault& fault) {
    return fault.stalled() ? Evidence::stalled : Evidence::other;
  } catch (...) {
    return Evidence::other;
  }
}

/// The rank whose error tells most of what went wrong first.
Rank root_cause(const Outcomes& outcomes) {
  Rank best = outcomes.order.front();
  std::pair<Evidence, bool> best_value{Evidence::stalled, false};
  for (const Rank rank : outcomes.order) {
    const std::pair value{evidence(outcomes.errors[rank]),
                          rank == outcomes.marked};
    if (value > best_value) {
      best = rank;
      best_value = value;
    }
  }
  return best;
}

Transports transports_for(int ranks, const FaultInjection& faults,
                          const Decorator& wrap) {
  Transports all = LocalWorld(ranks).transports();
  if (faults.max_delay.count() > 0) {
    all = delayed(std::move(all), faults.seed, faults.max_delay);
  }
  if (wrap) all = wrap(std::move(all));
  if (!faults.kill && !faults.stall) return all;
  return faulty(std::move(all), {faults.kill, faults.stall});
}

Outcomes run(int ranks, const RankFunction& function,
             const FaultInjection& faults, const Decorator& wrap) {
  const Transports transports = transports_for(ranks, faults, wrap);
  Outcomes outcomes;
  outcomes.errors.resize(ranks);
  std::mutex mutex;
  const auto fail = [&](Rank rank) {
    const std::lock_guard lock(mutex);
    outcomes.errors[rank] = std::current_exception();
    outcomes.order.push_back(rank);
    transports[rank]->mark_failed(rank);
  };
  const auto body = [&](Rank rank) {
    try {
      function(rank, transports[rank]);
    } catch (...) {
      fail(rank);
    }
    transports[rank]->ended();
  };
  {
    std::vector<std::jthread> threads;
    threads.reserve(ranks);
    for (Rank rank = 0; rank < ranks; ++rank) {
      try {
        threads.emplace_back(body, rank);
      } catch (const std::system_error&) {  // no more threads: others must end
        fail(rank);
        transports[rank]->ended();
      }
    }
  }
  outcomes.marked = transports.front()->first_failed();
  return outcomes;
}

}  // namespace

std::vector<std::exception_ptr> rank_outcomes(int ranks,
                                              const RankFunction& function,
                                              const FaultInjection& faults,
                                              const Decorator& wrap) {
  return run(ranks, function, faults, wrap).errors;
}

void run_ranks(int ranks, const RankFunction& function,
               const FaultInjection& faults, const Decorator& wrap) {
  const Outcomes outcomes = run(ranks, function, faults, wrap);
  if (outcomes.order.empty()) return;
  std::rethrow_exception(outcomes.errors[root_cause(outcomes)]);
}

}  // namespace ringweave::comm
