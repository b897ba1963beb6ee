#include "ringweave/train/spent.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "ringweave/comm/all_gather_json.h"

namespace ringweave::train {
namespace {

Shares shares(const std::vector<Spent>& ranks, double Spent::*waited,
              double seconds) {
  Shares shares;
  for (const Spent& spent : ranks) {
    const double share = seconds > 0 ? spent.*waited / seconds : 0;
    shares.mean += share / static_cast<double>(ranks.size());
    shares.max = std::max(shares.max, share);
  }
  return shares;
}

}  // namespace

SpentByAll gather(const Spent& mine, comm::Communicator& communicator) {
  std::vector<Spent> ranks;
  for (const Json& spent : comm::all_gather_json(
           {mine.seconds, mine.waiting_seconds, mine.gradient_waiting_seconds,
            mine.bytes, mine.stop},
           communicator)) {
    ranks.push_back({.seconds = spent[0].get<double>(),
                     .waiting_seconds = spent[1].get<double>(),
                     .gradient_waiting_seconds = spent[2].get<double>(),
                     .bytes = spent[3].get<std::int64_t>(),
                     .stop = spent[4].get<int>()});
  }
  SpentByAll all;
  for (const Spent& spent : ranks) {
    all.seconds = std::max(all.seconds, spent.seconds);
    all.bytes += spent.bytes;
    all.stop = std::max(all.stop, spent.stop);
  }
  all.waiting = shares(ranks, &Spent::waiting_seconds, all.seconds);
  all.gradient_waiting =
      shares(ranks, &Spent::gradient_waiting_seconds, all.seconds);
  return all;
}

Meter::Meter(std::vector<comm::Communicator*> communicators)
    : communicators_(std::move(communicators)),
      start_(comm::Clock::now()),
      before_(so_far()) {}

Spent Meter::spent() const {
  const std::chrono::duration<double> seconds = comm::Clock::now() - start_;
  Spent spent = so_far();
  spent.seconds = seconds.count();
  spent.waiting_seconds -= before_.waiting_seconds;
  spent.bytes -= before_.bytes;
  return spent;
}

Spent Meter::so_far() const {
  Spent sum;
  for (comm::Communicator* communicator : communicators_) {
    sum.waiting_seconds += communicator->traffic().waiting_seconds;
    sum.bytes += communicator->traffic().bytes();
  }
  return sum;
}

}  // namespace ringweave::train
