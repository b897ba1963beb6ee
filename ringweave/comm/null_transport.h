// A transport without peers: sends vanish, receives end at once and leave their
// buffers as they are. For what one rank does on its own: its host's work, its
// kernel calls.
#pragma once

#include <memory>
#include <optional>

#include "ringweave/comm/transport.h"

namespace ringweave::comm {

class NullTransport final : public Transport {
 public:
  NullTransport(Rank rank, int size) : rank_(rank), size_(size) {}

  Rank rank() const override { return rank_; }
  int size() const override { return size_; }

  Works post(const Batch& batch, const Stream&) override {
    Works works(batch.size());
    for (auto& work : works) work = std::make_unique<Done>();
    return works;
  }

  bool carries(const Device&) const override { return true; }
  void mark_failed(Rank rank) override { failed_ = failed_.value_or(rank); }
  std::optional<Rank> first_failed() override { return failed_; }

 private:
  struct Done final : Work {
    void wait(Clock::time_point) override {}
  };

  Rank rank_;
  int size_;
  std::optional<Rank> failed_;
};

}  // namespace ringweave::comm
