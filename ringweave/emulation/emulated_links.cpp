#include "ringweave/emulation/emulated_links.h"

#include <memory>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/comm/holding.h"
#include "ringweave/emulation/link_model.h"

namespace ringweave::emulation {
namespace {

class EmulatedLinks final : public comm::Holding {
 public:
  EmulatedLinks(comm::Transports ranks, topology::Topology links)
      : Holding(std::move(ranks)), links_(std::move(links)) {}

 private:
  struct Flight {
    int number;  ///< in the model
    std::shared_ptr<Message> message;
  };

  void matched(const std::shared_ptr<Message>& message,
               std::size_t bytes) override {
    const int number = links_.start(message->from, message->to,
                                    static_cast<std::int64_t>(bytes));
    flights_.push_back({number, message});
  }

  /// Once every rank waits, time passes until one need not.
  void paused() override {
    while (all_pause() && links_.advance()) {
      std::erase_if(flights_, [&](const Flight& flight) {
        if (!links_.arrived(flight.number)) return false;
        release(*flight.message);
        return true;
      });
    }
  }

  double seconds() const override { return links_.seconds(); }

  LinkModel links_;
  std::vector<Flight> flights_;  ///< in the order in which they were matched
};

}  // namespace

comm::Transports emulated_links(comm::Transports ranks,
                                topology::Topology links) {
  require(links.ranks() == static_cast<int>(ranks.size()),
          "[emulation] got a topology of {} ranks for {}; want as many",
          links.ranks(), ranks.size());
  return std::make_shared<EmulatedLinks>(std::move(ranks), std::move(links))
      ->transports();
}

}  // namespace ringweave::emulation
