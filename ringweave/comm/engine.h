// Where ranks come from, as the user asked: threads of this process, or the
// processes of a launcher's group. Nothing else chooses a transport.
//
//   const Engine engine;  // threads; comm::c10d_engine(name): a group
//   engine.run(4, time_outs, [](Communicator& communicator) { … });
#pragma once

#include <functional>
#include <memory>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/transport.h"

namespace ringweave::comm {

class Engine {
 public:
  /// Ranks are threads of this process, as many as run() is told.
  Engine() = default;
  /// The same; `wrap` decorates their transports.
  explicit Engine(Decorator wrap);
  /// This process is one rank of `group`, each of whose members makes the same
  /// calls.
  explicit Engine(std::shared_ptr<Transport> group);

  bool is_group() const { return group_ != nullptr; }
  /// Ranks of the group; 0 without one.
  int group_size() const { return group_ ? group_->size() : 0; }
  /// This process's rank in the group, or else the first thread's, 0.
  Rank rank() const { return group_ ? group_->rank() : 0; }
  /// How many of `ranks` ranks are in this process.
  int ranks_here(int ranks) const { return group_ ? 1 : ranks; }

  /// Calls `body` once for each rank of this process: in this thread for a
  /// group, else in a thread per rank (run_ranks(), with its errors). Throws
  /// InternalError unless a group has `ranks` ranks.
  void run(int ranks, const TimeOuts& time_outs,
           const std::function<void(Communicator&)>& body) const;

 private:
  std::shared_ptr<Transport> group_;  ///< null: threads
  Decorator wrap_;
};

}  // namespace ringweave::comm
