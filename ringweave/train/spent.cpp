#include "ringweave/train/spent.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "ringweave/attention/attention.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::train {
namespace {

constexpr std::array kTimes = {
    &Spent::seconds,
    &Spent::waiting_seconds,
    &Spent::softmax_waiting_seconds,
    &Spent::linear_waiting_seconds,
    &Spent::gradient_waiting_seconds,
    &Spent::optimizer_seconds,
};

Shares shares(const std::vector<Spent>& ranks, double Spent::*part,
              double seconds) {
  Shares shares;
  for (const Spent& spent : ranks) {
    const double share = seconds > 0 ? spent.*part / seconds : 0;
    shares.mean += share / static_cast<double>(ranks.size());
    shares.max = std::max(shares.max, share);
  }
  return shares;
}

}  // namespace

Spent& Spent::operator+=(const Spent& more) {
  for (double Spent::*part : kTimes) this->*part += more.*part;
  bytes += more.bytes;
  stop = std::max(stop, more.stop);
  return *this;
}

SpentByAll gather(const Spent& mine, comm::Communicator& communicator) {
  Json json = {mine.bytes, mine.stop};
  for (double Spent::*part : kTimes) json.push_back(mine.*part);
  std::vector<Spent> ranks;
  for (const Json& theirs : comm::all_gather_json(json, communicator)) {
    Spent spent{.bytes = theirs[0].get<std::int64_t>(),
                .stop = theirs[1].get<int>()};
    for (std::size_t i = 0; i < kTimes.size(); ++i) {
      spent.*kTimes[i] = theirs[2 + i].get<double>();
    }
    ranks.push_back(spent);
  }
  SpentByAll all;
  for (const Spent& spent : ranks) {
    all.seconds = std::max(all.seconds, spent.seconds);
    all.bytes += spent.bytes;
    all.stop = std::max(all.stop, spent.stop);
  }
  const auto share = [&](double Spent::*part) {
    return shares(ranks, part, all.seconds);
  };
  all.waiting = share(&Spent::waiting_seconds);
  all.softmax_waiting = share(&Spent::softmax_waiting_seconds);
  all.linear_waiting = share(&Spent::linear_waiting_seconds);
  all.gradient_waiting = share(&Spent::gradient_waiting_seconds);
  all.optimizer = share(&Spent::optimizer_seconds);
  return all;
}

Meter::Meter(std::vector<comm::Communicator*> communicators)
    : communicators_(std::move(communicators)),
      start_(comm::Clock::now()),
      before_(so_far()) {}

Spent Meter::spent() const {
  const std::chrono::duration<double> seconds = comm::Clock::now() - start_;
  Spent spent = so_far();
  for (double Spent::*part : kTimes) spent.*part -= before_.*part;
  spent.seconds = seconds.count();
  spent.bytes -= before_.bytes;
  return spent;
}

Spent Meter::so_far() const {
  Spent sum;
  for (comm::Communicator* communicator : communicators_) {
    const comm::Traffic& traffic = communicator->traffic();
    sum.waiting_seconds += traffic.waiting_seconds();
    sum.softmax_waiting_seconds +=
        traffic.waiting_seconds(attention::kForwardPass) +
        traffic.waiting_seconds(attention::kBackwardPass);
    sum.linear_waiting_seconds +=
        traffic.waiting_seconds(linear_attention::kForwardPass) +
        traffic.waiting_seconds(linear_attention::kBackwardPass);
    sum.bytes += traffic.bytes();
  }
  return sum;
}

}  // namespace ringweave::train
