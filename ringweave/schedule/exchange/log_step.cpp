// In round i each segment gets what the 2^i segments before those that it has
// are composed to: after log2 rounds the state before it.
#include <algorithm>
#include <bit>
#include <memory>

#include "ringweave/base/error.h"
#include "ringweave/schedule/exchange/state_exchange.h"
#include "ringweave/schedule/schedule_builder.h"

namespace ringweave::schedule {
namespace {

/// In round i place p sends the segments p - 2^i + 1 … p, as far as there are
/// any, to place p + 2^i: the owner's blocks of strand i. The last strand is
/// the state after all segments.
class LogStepDemand final : public ScanDemand {
 public:
  struct Sent {
    Composed what;
    Rank to = 0;
  };

  explicit LogStepDemand(const StateDemand& states)
      : ScanDemand(states, 1), rounds_(rounds_of(places())) {
    sent_.assign(ranks(), std::vector<std::vector<Sent>>(rounds_));
    for (int place = 0; place < places(); ++place) {
      for (int round = 0; round < rounds_; ++round) add(place, round);
    }
    // What goes to one rank is one message.
    for (auto& rounds : sent_) {
      for (auto& sent : rounds) std::ranges::stable_sort(sent, {}, &Sent::to);
    }
  }

  int rounds() const { return rounds_; }
  const std::vector<Sent>& sent(Rank owner, int round) const {
    return sent_[owner][round];
  }
  int strands() const override { return rounds_ + 1; }
  int parts(Rank owner) const override {
    std::size_t most = 1;
    for (const auto& sent : sent_[owner]) most = std::max(most, sent.size());
    return static_cast<int>(most);
  }

  std::optional<Composed> content(const BlockId& block) const override {
    if (block.strand == rounds_) {
      const bool last = block.part == 0 && places() > 0 &&
                        segment(places() - 1).rank == block.owner;
      return last ? std::optional(Composed{{0, places()}}) : std::nullopt;
    }
    const Sent* sent = find(block);
    return sent ? std::optional(sent->what) : std::nullopt;
  }

  bool needs(Rank rank, const BlockId& block, int strands) const override {
    if (rank == block.owner || !content(block)) return false;
    if (block.strand == rounds_) return needs_end(rank);
    return find(block)->to == rank;
  }

 private:
  static int rounds_of(int places) {
    return places == 0 ? 0 : std::bit_width(static_cast<unsigned>(places - 1));
  }

  const Sent* find(const BlockId& block) const {
    const std::vector<Sent>& sent = sent_[block.owner][block.strand];
    const auto part = static_cast<std::size_t>(block.part);
    return part < sent.size() ? &sent[part] : nullptr;
  }

  void add(int place, int round) {
    const int distance = 1 << round;
    if (place + distance >= places()) return;
    const Rank from = segment(place).rank;
    const Rank to = segment(place + distance).rank;
    if (from == to) return;
    // For the sum of all, only what the last place is made of: each segment
    // goes there in one way.
    const auto rest = static_cast<unsigned>(places() - 1 - place);
    if (!states().causal && std::countr_zero(rest) != round) return;
    const Range window{std::max(0, place - distance + 1), place + 1};
    std::vector<Sent>& sent = sent_[from][round];
    if (window.begin > 0 && has_decays()) {
      sent.push_back({{window, 0, true}, to});
    }
    sent.push_back({{window}, to});
  }

  int rounds_;
  std::vector<std::vector<std::vector<Sent>>> sent_;  // [owner][round][part]
};

class LogStep final : public StateExchange {
 public:
  std::string name() const override { return "log_step"; }
  int strands(int) const override { return 1; }
  std::unique_ptr<const ScanDemand> scan(
      const StateDemand& states) const override {
    return std::make_unique<LogStepDemand>(states);
  }

  Schedule schedule(const StateDemand& states,
                    std::optional<Rank> rank) const override {
    const LogStepDemand demand(states);
    ScheduleBuilder builder(demand, demand.strands(), Pass::forward,
                            demand.rounds() + 1);
    const auto send = [&](const BlockId& block, Rank to) {
      const Rank from = block.owner;
      if (rank && *rank != from && *rank != to) return;
      const int slot = block.strand * states.ranks + from;
      builder.add(Transfer{from, to, block, Payload::summary,
                           demand.action(demand.composed(block)), block.strand,
                           block.strand + 1, kOwn, slot});
      if (!rank || *rank == to) builder.add(Retained{to, block, slot});
    };
    for (Rank from = 0; from < states.ranks; ++from) {
      for (int round = 0; round < demand.rounds(); ++round) {
        int part = 0;
        for (const LogStepDemand::Sent& sent : demand.sent(from, round)) {
          send({from, round, part++}, sent.to);
        }
      }
    }
    if (demand.places() == 0) return builder.finish();
    const BlockId end{demand.segment(demand.places() - 1).rank, demand.rounds(),
                      0};
    for (Rank to = 0; to < states.ranks; ++to) {
      if (demand.needs(to, end, demand.strands())) send(end, to);
    }
    return builder.finish();
  }
};

}  // namespace

StateExchangeKind log_step() {
  return {
      .name = "log_step",
      .make =
          [](const std::string& parameters) {
            check_no_parameters("log_step", parameters);
            return std::make_shared<LogStep>();
          },
      .candidates =
          [](int) {
            return std::vector<StateExchangePtr>{std::make_shared<LogStep>()};
          }};
}

}  // namespace ringweave::schedule
