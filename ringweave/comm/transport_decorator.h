// A transport that passes everything on to another one.
#pragma once

#include <memory>
#include <utility>

#include "ringweave/comm/transport.h"

namespace ringweave::comm {

class TransportDecorator : public Transport {
 public:
  explicit TransportDecorator(std::shared_ptr<Transport> inner)
      : inner_(std::move(inner)) {}

  Rank rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  Works post(const Batch& batch, const Stream& stream) override {
    return inner_->post(batch, stream);
  }
  bool carries(const Device& device) const override {
    return inner_->carries(device);
  }
  void mark_failed(Rank rank) override { inner_->mark_failed(rank); }
  std::optional<Rank> first_failed() override { return inner_->first_failed(); }
  void ended() override { inner_->ended(); }
  double seconds() const override { return inner_->seconds(); }

 protected:
  Transport& inner() const { return *inner_; }

 private:
  std::shared_ptr<Transport> inner_;
};

}  // namespace ringweave::comm
