#include "ringweave/comm/local_ranks.h"

#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace ringweave::comm {
namespace {

struct Outcomes {
  std::vector<std::exception_ptr> errors;  ///< per rank
  std::vector<Rank> order;                 ///< in which the ranks failed
  std::optional<Rank> marked;
};

/// A stalled rank fails last, and a CommError is often a consequence.
enum class Evidence { stalled, comm_error, other };

Evidence evidence(const std::exception_ptr& error, Rank rank,
                  const FaultInjection& faults) {
  try {
    std::rethrow_exception(error);
  } catch (const CommError&) {
    return Evidence::comm_error;
  } catch (const InjectedFault&) {
    return faults.stall && faults.stall->rank == rank ? Evidence::stalled
                                                      : Evidence::other;
  } catch (...) {
    return Evidence::other;
  }
}

/// The rank whose error tells most of what went wrong first.
Rank root_cause(const Outcomes& outcomes, const FaultInjection& faults) {
  Rank best = outcomes.order.front();
  std::pair<Evidence, bool> best_value{Evidence::stalled, false};
  for (const Rank rank : outcomes.order) {
    const std::pair value{evidence(outcomes.errors[rank], rank, faults),
                          rank == outcomes.marked};
    if (value > best_value) {
      best = rank;
      best_value = value;
    }
  }
  return best;
}

Outcomes run(int ranks, const RankFunction& function,
             const FaultInjection& faults) {
  const LocalWorld world(ranks, faults);
  Outcomes outcomes;
  outcomes.errors.resize(ranks);
  std::mutex mutex;
  const auto fail = [&](Rank rank) {
    const std::lock_guard lock(mutex);
    outcomes.errors[rank] = std::current_exception();
    outcomes.order.push_back(rank);
    world.transport(rank)->mark_failed(rank);
  };
  const auto body = [&](Rank rank) {
    try {
      function(rank, world.transport(rank));
    } catch (...) {
      fail(rank);
    }
    world.ended(rank);
  };
  {
    std::vector<std::jthread> threads;
    threads.reserve(ranks);
    for (Rank rank = 0; rank < ranks; ++rank) {
      try {
        threads.emplace_back(body, rank);
      } catch (const std::system_error&) {  // no more threads: others must end
        fail(rank);
        world.ended(rank);
      }
    }
  }
  outcomes.marked = world.transport(0)->first_failed();
  return outcomes;
}

}  // namespace

std::vector<std::exception_ptr> rank_outcomes(int ranks,
                                              const RankFunction& function,
                                              FaultInjection faults) {
  return run(ranks, function, faults).errors;
}

void run_ranks(int ranks, const RankFunction& function, FaultInjection faults) {
  const Outcomes outcomes = run(ranks, function, faults);
  if (outcomes.order.empty()) return;
  std::rethrow_exception(outcomes.errors[root_cause(outcomes, faults)]);
}

}  // namespace ringweave::comm
