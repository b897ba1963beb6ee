#include "ringweave/comm/engine.h"

#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::comm {

Engine::Engine(Decorator wrap) : wrap_(std::move(wrap)) {}
Engine::Engine(std::shared_ptr<Transport> group) : group_(std::move(group)) {}

void Engine::run(int ranks, const TimeOuts& time_outs,
                 const std::function<void(Communicator&)>& body) const {
  if (group_) {
    ensure(ranks == group_->size(), "{} ranks in a group of {}", ranks,
           group_->size());
    Communicator communicator(group_, time_outs);
    body(communicator);
    return;
  }
  run_ranks(
      ranks,
      [&](Rank, std::shared_ptr<Transport> transport) {
        Communicator communicator(std::move(transport), time_outs);
        body(communicator);
      },
      {}, wrap_);
}

}  // namespace ringweave::comm
