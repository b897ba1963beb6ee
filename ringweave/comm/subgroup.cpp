#include "ringweave/comm/subgroup.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::comm {
namespace {

class Subgroup final : public Transport {
 public:
  Subgroup(Transport& whole, std::vector<Rank> members)
      : whole_(whole), members_(std::move(members)) {
    const auto own = std::ranges::find(members_, whole_.rank());
    ensure(own != members_.end() && std::ranges::is_sorted(members_),
           "rank {} makes a subgroup of others", whole_.rank());
    rank_ = static_cast<Rank>(own - members_.begin());
  }

  Rank rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  Works post(const Batch& batch, const Stream& stream) override {
    check_batch(batch, rank(), size());
    std::vector<Receive> receives(batch.receives.begin(), batch.receives.end());
    std::vector<Send> sends(batch.sends.begin(), batch.sends.end());
    for (Receive& receive : receives) receive.from = members_[receive.from];
    for (Send& send : sends) send.to = members_[send.to];
    return whole_.post({receives, sends}, stream);
  }

  bool carries(const Device& device) const override {
    return whole_.carries(device);
  }
  void mark_failed(Rank rank) override { whole_.mark_failed(members_[rank]); }
  std::optional<Rank> first_failed() override { return whole_.first_failed(); }
  double seconds() const override { return whole_.seconds(); }

 private:
  Transport& whole_;
  std::vector<Rank> members_;
  Rank rank_ = 0;
};

}  // namespace

std::shared_ptr<Transport> subgroup(Transport& whole,
                                    std::vector<Rank> members) {
  return std::make_shared<Subgroup>(whole, std::move(members));
}

}  // namespace ringweave::comm
