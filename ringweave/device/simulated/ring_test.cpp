// A ring of ranks, each a thread with a device of its own, that send tensors
// by copies on streams for them. Each call that orders streams is left out in
// turn. The values are right even then: only the reports tell.
#include <array>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include "ringweave/device/simulated/test_channel.h"
#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::IsEmpty;
using testing::SizeIs;
using SharedEvent = std::shared_ptr<c10::Event>;

constexpr int kRanks = 4;
constexpr int kSteps = 5;
constexpr int kRuns = 20;

enum class Left {
  nothing,
  senders_ready_record,
  copiers_ready_block,
  copiers_free_block,
  copiers_done_record,
  receivers_done_block,
  senders_done_block
};

SharedEvent new_event() { return std::make_shared<c10::Event>(kType); }

struct Sent {
  Tensor tensor;
  SharedEvent ready;
};

/// The streams of the ranks, [rank].
struct RingStreams {
  RingStreams() {
    for (int rank = 0; rank < kRanks; ++rank) {
      compute.push_back(stream_of(rank));
      out.push_back(stream_of(rank));
      in.push_back(stream_of(rank));
    }
  }

  std::vector<c10::Stream> compute, out, in;
};

struct RingOfRanks {
  explicit RingOfRanks(const RingStreams& streams, Left left)
      : streams(streams), left(left) {}

  bool keeps(Left call) const { return left != call; }

  const RingStreams& streams;
  const Left left;
  std::array<Channel<Sent>, kRanks> mail;
  std::array<Channel<SharedEvent>, kRanks> copied;
};

/// Adds what the rank before has, and a number, again and again.
class RingRank {
 public:
  RingRank(RingOfRanks& ring, int rank)
      : ring_(ring), rank_(rank), before_((rank + kRanks - 1) % kRanks) {
    label(sent_, "sent" + std::to_string(rank));
    label(arrived_, "arrived" + std::to_string(rank));
    free_.record(compute());
  }

  float run() {
    for (int step = 0; step < kSteps; ++step) {
      if (step > 0) finish_send();
      send(step);
      receive();
      sum_.add_(arrived_);
      free_.record(compute());
    }
    ring_.copied[rank_].get()->block(compute());  // before it is freed
    return sum_[3].item<float>();
  }

 private:
  c10::Stream compute() const { return ring_.streams.compute[rank_]; }

  void finish_send() {
    const SharedEvent done = ring_.copied[rank_].get();
    if (ring_.keeps(Left::senders_done_block)) done->block(compute());
  }

  void send(int step) {
    at::add_out(sent_, sum_, at::scalar_tensor(step));
    const SharedEvent ready = new_event();
    if (ring_.keeps(Left::senders_ready_record)) ready->record(compute());
    ring_.mail[(rank_ + 1) % kRanks].put({sent_, ready});
  }

  void receive() {
    const SharedEvent done = new_event();
    copy(ring_.mail[rank_].get(), *done);
    ring_.copied[before_].put(done);
    if (ring_.keeps(Left::receivers_done_block)) done->block(compute());
  }

  /// On streams of both devices, which are both current then.
  void copy(const Sent& sent, c10::Event& done) {
    const c10::Stream in = ring_.streams.in[rank_];
    const c10::MultiStreamGuard guard({ring_.streams.out[before_], in});
    if (ring_.keeps(Left::copiers_ready_block)) sent.ready->block(in);
    if (ring_.keeps(Left::copiers_free_block)) free_.block(in);
    arrived_.copy_(sent.tensor, true);
    if (ring_.keeps(Left::copiers_done_record)) done.record(in);
  }

  RingOfRanks& ring_;
  const int rank_;
  const int before_;
  Tensor sent_ = at::empty({64}, device(rank_));
  Tensor arrived_ = at::empty({64}, device(rank_));
  Tensor sum_ = at::full({64}, float(rank_), device(rank_));
  c10::Event free_{kType};
};

std::vector<float> wanted_sums() {
  std::vector<float> sums = {0, 1, 2, 3};
  for (int step = 0; step < kSteps; ++step) {
    const std::vector<float> sent = sums;
    for (int rank = 0; rank < kRanks; ++rank) {
      sums[rank] += sent[(rank + kRanks - 1) % kRanks] + float(step);
    }
  }
  return sums;
}

/// The keys of what is reported of one run.
std::set<std::string> run_ring(const RingStreams& streams, Left left) {
  RingOfRanks ring(streams, left);
  std::vector<float> sums(kRanks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      const c10::StreamGuard guard(streams.compute[rank]);
      sums[rank] = RingRank(ring, rank).run();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sums, wanted_sums());
  std::set<std::string> keys;
  for (const Report& report : take_reports()) keys.insert(report.key());
  return keys;
}

struct Mistake {
  Left left;
  std::size_t reports;
};
std::ostream& operator<<(std::ostream& out, const Mistake& mistake) {
  return out << "left out " << static_cast<int>(mistake.left);
}

class Ring : public testing::TestWithParam<Mistake> {};

TEST_P(Ring, IsReportedInTheSameWayInEveryRun) {
  const RingStreams streams;
  settle();
  const auto first = run_ring(streams, GetParam().left);
  EXPECT_THAT(first, SizeIs(GetParam().reports));
  for (int i = 1; i < kRuns; ++i) {
    EXPECT_EQ(run_ring(streams, GetParam().left), first);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Calls, Ring,
    testing::Values(Mistake{Left::nothing, 0},
                    // One a rank, of the sender's write and the copy.
                    Mistake{Left::senders_ready_record, 4},
                    Mistake{Left::copiers_ready_block, 4},
                    Mistake{Left::senders_done_block, 4},
                    // One a rank, of the copy and the sum.
                    Mistake{Left::copiers_free_block, 4},
                    // And memory is freed while the copy writes it.
                    Mistake{Left::receivers_done_block, 8},
                    // Neither side waits.
                    Mistake{Left::copiers_done_record, 16}));

/// A thread that was there before learns of what another has waited for.
class Told : public TwoStreams {
 protected:
  using Message = std::pair<SharedEvent, Clock>;

  /// `learn` is what the reader does with the message.
  template <typename Function>
  void read_in_another_thread(Function learn) {
    Channel<Message> channel;
    const SharedEvent other = new_event();
    settle();
    std::thread reader([&] {
      learn(channel.get());
      on(b, [&] { x.sum(); });
    });
    on(a, [&] { x.fill_(1); });
    a.synchronize();
    other->record(stream_of(0));  // tells nothing of stream a, but of the host
    channel.put({other, host_release()});
    reader.join();
  }
};

TEST_F(Told, ByAQueueItDoesNotKnow) {
  read_in_another_thread([](const Message&) {});
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
}

TEST_F(Told, ByAnEvent) {
  read_in_another_thread(
      [this](const Message& message) { message.first->block(b); });
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Told, ByReleaseAndAcquire) {
  read_in_another_thread(
      [](const Message& message) { host_acquire(message.second); });
  EXPECT_THAT(take_reports(), IsEmpty());
}

}  // namespace
}  // namespace ringweave::device::simulated
