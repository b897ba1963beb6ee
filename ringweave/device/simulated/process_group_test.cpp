// A c10d backend for tensors of the device: sends and receives, and what is
// reported if nobody waits for them.
#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "ringweave/device/simulated/test_channel.h"
#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;

/// Both sides of a message. Who comes second copies.
struct Message {
  void wait_for_copy() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return copied; });
  }
  bool is_copied() {
    const std::lock_guard lock(mutex);
    return copied;
  }
  void copy(c10::Stream out, c10::Stream in) {
    const c10::MultiStreamGuard guard({out, in});
    sent.block(out);
    posted.block(in);
    to.copy_(from, true);
    done.record(in);
    {
      const std::lock_guard lock(mutex);
      copied = true;
    }
    changed.notify_all();
  }

  Tensor from, to;
  c10::Event sent{kType}, posted{kType}, done{kType};
  std::mutex mutex;
  std::condition_variable changed;
  bool copied = false;
};

/// Messages of two ranks that one side has not posted yet. Each direction has
/// streams of its own: with one for both, what is ordered would depend on which
/// copy comes first.
struct Mailboxes {
  struct Key {
    int from, to, tag;
    auto operator<=>(const Key&) const = default;
  };

  std::shared_ptr<Message> open_message(const Key& key, bool sends) {
    auto& queue = open[key];
    const auto other = std::find_if(queue.begin(), queue.end(), [&](auto& at) {
      return !(sends ? at->from : at->to).defined();
    });
    if (other == queue.end()) {
      queue.push_back(std::make_shared<Message>());
      return queue.back();
    }
    std::shared_ptr<Message> message = *other;
    queue.erase(other);
    return message;
  }

  std::mutex mutex;
  std::map<Key, std::deque<std::shared_ptr<Message>>> open;
  const std::array<c10::Stream, 2> out = {stream_of(0), stream_of(1)};
  const std::array<c10::Stream, 2> in = {stream_of(1), stream_of(0)};
};

class MessageWork final : public c10d::Work {
 public:
  MessageWork(std::shared_ptr<Message> message, c10::Device device)
      : message_(std::move(message)), device_(device) {}

  bool isCompleted() override { return message_->is_copied(); }
  void synchronize() override { wait(); }
  /// The thread waits for the other rank's call, but knows no more from that:
  /// only the current stream waits for the copy.
  bool wait(std::chrono::milliseconds = kNoTimeout) override {
    message_->wait_for_copy();
    message_->done.block(guards().getStream(device_));
    return true;
  }

 private:
  const std::shared_ptr<Message> message_;
  const c10::Device device_;
};

class CopyBackend final : public c10d::Backend {
 public:
  CopyBackend(int rank, Mailboxes& boxes) : Backend(rank, 2), boxes_(boxes) {}

  const std::string getBackendName() const override { return "copies"; }
  c10::intrusive_ptr<c10d::Work> send(std::vector<Tensor>& tensors, int to,
                                      int tag) override {
    return post(tensors.at(0), {rank_, to, tag}, true);
  }
  c10::intrusive_ptr<c10d::Work> recv(std::vector<Tensor>& tensors, int from,
                                      int tag) override {
    return post(tensors.at(0), {from, rank_, tag}, false);
  }

 private:
  c10::intrusive_ptr<c10d::Work> post(const Tensor& tensor,
                                      const Mailboxes::Key& key, bool sends) {
    const std::lock_guard lock(boxes_.mutex);
    const auto message = boxes_.open_message(key, sends);
    (sends ? message->from : message->to) = tensor;
    (sends ? message->sent : message->posted)
        .record(guards().getStream(tensor.device()));
    if (message->from.defined() && message->to.defined()) {
      message->copy(boxes_.out[key.from], boxes_.in[key.from]);
    }
    return c10::make_intrusive<MessageWork>(message, tensor.device());
  }

  Mailboxes& boxes_;
};

enum class Polled { neither, receive, send };

class ProcessGroups : public testing::TestWithParam<Polled> {
 protected:
  ProcessGroups() { settle(); }

  /// A poll ends when the other rank has called, not when the copy is done.
  static void finish(c10d::Work& work, bool polls) {
    if (!polls) {
      work.wait();
      return;
    }
    while (!work.isCompleted()) std::this_thread::yield();
  }

  void run_rank(int rank) {
    const auto group = c10::make_intrusive<c10d::ProcessGroup>(
        c10::make_intrusive<c10d::HashStore>(), rank, 2);
    group->setBackend(kType, c10d::ProcessGroup::CUSTOM,
                      c10::make_intrusive<CopyBackend>(rank, boxes));
    const c10::StreamGuard guard(compute[rank]);
    const Tensor mine = at::full({8}, rank + 1.0F, device(rank));
    const Tensor theirs = at::zeros({8}, device(rank));
    label(mine, "mine" + std::to_string(rank));
    label(theirs, "theirs" + std::to_string(rank));
    for (int step = 0; step < 4; ++step) {
      const auto sum = exchange(*group, mine, theirs, 1 - rank, step == 3);
      if (step == 3) {
        EXPECT_EQ(sum.item<float>(), 8 * (2 - rank + step));
      }
    }
  }

  Tensor exchange(c10d::ProcessGroup& group, const Tensor& mine,
                  const Tensor& theirs, int peer, bool last) {
    std::vector<Tensor> sent{mine};
    std::vector<Tensor> received{theirs};
    sleep_at_random();
    const auto send = group.send(sent, peer, 7);
    const auto receive = group.recv(received, peer, 7);
    finish(*receive, GetParam() == Polled::receive);
    Tensor sum = theirs.sum();
    finish(*send, GetParam() == Polled::send);
    mine.add_(1);
    if (last) {
      send->wait();
      receive->wait();
    }
    return sum;
  }

  std::set<std::string> run() {
    std::thread other([&] { run_rank(1); });
    run_rank(0);
    other.join();
    std::set<std::string> keys;
    for (const Report& report : take_reports()) keys.insert(report.key());
    return keys;
  }

  Mailboxes boxes;
  const std::array<c10::Stream, 2> compute = {stream_of(0), stream_of(1)};
};

TEST_P(ProcessGroups, OrderWhatWaits) {
  const auto first = run();
  EXPECT_EQ(first.empty(), GetParam() == Polled::neither);
  for (int i = 1; i < 20; ++i) EXPECT_EQ(run(), first);
}

INSTANTIATE_TEST_SUITE_P(Works, ProcessGroups,
                         testing::Values(Polled::neither, Polled::receive,
                                         Polled::send));

}  // namespace
}  // namespace ringweave::device::simulated
