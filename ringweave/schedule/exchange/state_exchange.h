// The ways in which states of linear layers travel, by name.
//
//   const StateExchangePtr exchange = state_exchange_from_name("chain");
//   const ExchangeProgram mine = compile(*exchange, demand, rank);
//
// A kind is a file of this folder and a line in state_exchange.cpp; elsewhere,
// add_state_exchange() makes one known.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/schedule/exchange/scan_demand.h"
#include "ringweave/schedule/exchange/state_demand.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::schedule {

/// One way. Immutable.
class StateExchange {
 public:
  virtual ~StateExchange() = default;

  /// What state_exchange_from_name() makes it of again.
  virtual std::string name() const = 0;
  /// Strands that a summary is cut into. Throws InvalidArgument or NoSolution
  /// if it can't run on so many ranks.
  virtual int strands(int ranks) const = 0;
  /// What its blocks are if ranks compose and pass on what they composed.
  /// nullptr: what travels are the summaries of single segments, for
  /// SummaryDemand(states), and the receiver composes them in the end.
  virtual std::unique_ptr<const ScanDemand> scan(
      const StateDemand& states) const {
    return nullptr;
  }
  /// What `rank` sends and receives, or all ranks. A schedule of the forward
  /// pass with payload summary and no tiles, which retains all that arrives.
  /// validate_scan() says what it must do.
  virtual Schedule schedule(const StateDemand& states,
                            std::optional<Rank> rank) const = 0;
  /// By which strategy summaries travel, for those who predict it; nullptr: by
  /// none.
  virtual const Strategy* strategy() const { return nullptr; }

  /// Why it can't run on so many ranks, in one line; nullopt: it can.
  std::optional<std::string> why_not(int ranks) const;
};

using StateExchangePtr = std::shared_ptr<const StateExchange>;

struct StateExchangeKind {
  /// All names of the kind are this, or this and ":" with parameters.
  std::string name;
  /// From the parameters; empty: there are none. Throws InvalidArgument.
  std::function<StateExchangePtr(const std::string& parameters)> make;
  /// What a planner tries on a machine of so many nodes.
  std::function<std::vector<StateExchangePtr>(int nodes)> candidates;
};

/// What is taken where nothing is said.
inline constexpr const char* kDefaultStateExchange = "all_gather";

/// "chain"; "pipelined_chain" (8 strands), "pipelined_chain:16", …;
/// "sharded_scan"; "log_step"; "all_gather" (direct, one strand),
/// "all_gather:ring", "all_gather:multi_ring", "all_gather:direct", …
StateExchangePtr state_exchange_from_name(const std::string& name);

/// The candidates of all kinds.
std::vector<StateExchangePtr> all_exchanges(int nodes);

/// To be called before any other thread reads names. Throws InvalidArgument if
/// there is a kind of that name.
void add_state_exchange(StateExchangeKind kind);

/// Throws InvalidArgument unless they are empty: of a kind that has none.
void check_no_parameters(const std::string& kind,
                         const std::string& parameters);

/// The kinds of this folder, each in the file of its name.
StateExchangeKind chain();
StateExchangeKind pipelined_chain();
StateExchangeKind sharded_scan();
StateExchangeKind log_step();
StateExchangeKind all_gather();

}  // namespace ringweave::schedule
