#include "ringweave/comm/c10d_transport.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "ringweave/base/error.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

/// Writes down what it is asked for, keeps all tensors, and fails every wait.
class FailingBackend final : public c10d::Backend {
 public:
  explicit FailingBackend(int rank = 0, int size = 3) : Backend(rank, size) {}

  const std::string getBackendName() const override { return "failing"; }
  c10::intrusive_ptr<c10d::Work> send(std::vector<at::Tensor>& tensors, int to,
                                      int tag) override {
    if (to == 2) TORCH_CHECK(false, "rank 2 is far away");
    return keep("send", tensors, to, tag);
  }
  c10::intrusive_ptr<c10d::Work> recv(std::vector<at::Tensor>& tensors,
                                      int from, int tag) override {
    return keep("receive", tensors, from, tag);
  }

  std::vector<std::string> calls;
  std::vector<at::Tensor> kept;

 private:
  struct FailedWork final : c10d::Work {
    bool wait(std::chrono::milliseconds) override {
      TORCH_CHECK(false, "the cable broke. Some guesses follow");
    }
  };

  c10::intrusive_ptr<c10d::Work> keep(const char* what,
                                      std::vector<at::Tensor>& tensors,
                                      int peer, int tag) {
    calls.push_back(
        fmt::format("{} {} {} {}", what, peer, tensors.at(0).nbytes(), tag));
    kept.push_back(tensors.at(0));
    return c10::make_intrusive<FailedWork>();
  }
};

/// A process group of that backend, known by a name.
struct C10dTransportTest : testing::Test {
  static constexpr const char* kName = "failing group";

  void SetUp() override {
    group->setBackend(c10::DeviceType::CPU,
                      c10d::ProcessGroup::BackendType::CUSTOM, backend);
    c10d::register_process_group(kName, group);
  }
  void TearDown() override { c10d::unregister_process_group(kName); }

  c10::intrusive_ptr<FailingBackend> backend =
      c10::make_intrusive<FailingBackend>();
  c10::intrusive_ptr<c10d::ProcessGroup> group =
      c10::make_intrusive<c10d::ProcessGroup>(0, 3);
};

CommError::Facts failure_of(Work& work, Clock::duration left = 20s) {
  try {
    work.wait(Clock::now() + left);
    ADD_FAILURE() << "no error";
  } catch (const CommError& error) {
    return error.facts();
  }
  return {};
}

TEST_F(C10dTransportTest, PostsABatchInItsOrder) {
  const auto transport = c10d_transport(kName);
  EXPECT_EQ(transport->rank(), 0);
  EXPECT_EQ(transport->size(), 3);
  const Buffer memory = allocate_buffer(100);
  const std::vector<Receive> receives{{2, memory.slice(0, 10)},
                                      {1, memory.slice(10, 20)}};
  const std::vector<Send> sends{{1, memory.slice(40, 30)}};
  const Works works = transport->post({receives, sends}, {});
  EXPECT_EQ(works.size(), 3u);
  EXPECT_THAT(backend->calls,
              ElementsAre("receive 2 10 0", "receive 1 20 0", "send 1 30 0"));
  EXPECT_EQ(backend->kept[1].const_data_ptr(), memory.data + 10);
}

TEST_F(C10dTransportTest, FailuresNameTheirMessage) {
  const auto transport = c10d_transport(kName);
  const Buffer memory = allocate_buffer(10);
  const std::vector<Receive> receives{{1, memory}};
  const std::vector<Send> sends{{2, memory}};
  const Works works = transport->post({receives, sends}, {});
  CommError::Facts facts = failure_of(*works[0]);
  EXPECT_EQ(facts.rank, 0);
  EXPECT_EQ(facts.peer, 1);
  EXPECT_EQ(facts.operation, "receive");
  EXPECT_EQ(facts.cause, "the cable broke");
  facts = failure_of(*works[1]);  // which was not even posted
  EXPECT_EQ(facts.peer, 2);
  EXPECT_EQ(facts.operation, "send");
  EXPECT_EQ(facts.cause, "rank 2 is far away");
}

TEST_F(C10dTransportTest, TheBackEndKeepsTheMemoryOfWhatFailed) {
  const auto transport = c10d_transport(kName);
  Buffer memory = allocate_buffer(10);
  const std::weak_ptr<void> alive = memory.owner;
  {
    const Receive receive{.from = 1, .buffer = std::move(memory)};
    const Works works = transport->post({{&receive, 1}, {}}, {});
    failure_of(*works[0]);
  }
  EXPECT_FALSE(alive.expired());
  backend->kept.clear();
  EXPECT_TRUE(alive.expired());
}

TEST_F(C10dTransportTest, AnEngineOfItIsAGroup) {
  const Engine engine = c10d_engine(kName);
  EXPECT_TRUE(engine.is_group());
  EXPECT_EQ(engine.group_size(), 3);
  EXPECT_FALSE(c10d_engine("").is_group());
}

/// Four ranks whose messages fail, one rank's after the other.
class NamedRank : public testing::Test {
 protected:
  /// That `rank` names, which waits for `peer`: in vain if no time is `left`,
  /// else until the connection breaks.
  Rank first_failed(Rank rank, Rank peer, Clock::duration left) {
    const auto group = c10::make_intrusive<c10d::ProcessGroup>(store, rank, 4);
    group->setBackend(c10::DeviceType::CPU,
                      c10d::ProcessGroup::BackendType::CUSTOM,
                      c10::make_intrusive<FailingBackend>(rank, 4));
    const auto transport = c10d_transport(group, "mark");
    const Receive receive{.from = peer, .buffer = allocate_buffer(10)};
    const Works works = transport->post({{&receive, 1}, {}}, {});
    return failure_of(*works[0], left).first_failed;
  }

  c10::intrusive_ptr<c10d::Store> store =
      c10::make_intrusive<c10d::HashStore>();
};

/// Rank 3 is silent. Ranks 0 and 1 wait in vain for ranks that wait too.
TEST_F(NamedRank, NoticedNothing) {
  EXPECT_EQ(first_failed(0, 1, 0s), -1);
  EXPECT_EQ(first_failed(1, 2, 0s), -1);
  EXPECT_EQ(first_failed(2, 3, 0s), 3);
  EXPECT_EQ(first_failed(1, 2, 20s), 3);  // all know it from now on
}

/// The connection to rank 1 breaks because it noticed rank 3 before.
TEST_F(NamedRank, IsNotOneThatNoticedAFailure) {
  EXPECT_EQ(first_failed(1, 3, 0s), -1);
  EXPECT_EQ(first_failed(0, 1, 20s), -1);
  EXPECT_EQ(first_failed(2, 1, 20s), 3);
}

/// Ranks 2 and 3 wait for each other; rank 0 noticed it before them, and rank 1
/// computes.
TEST_F(NamedRank, IsAnEndOfADeadLink) {
  EXPECT_EQ(first_failed(0, 2, 0s), -1);
  EXPECT_EQ(first_failed(2, 3, 0s), -1);
  EXPECT_EQ(first_failed(3, 2, 0s), 3);
  EXPECT_EQ(first_failed(1, 0, 20s), 3);
}

TEST(C10dTransport, WantsAGroupOfThatName) {
  for (const auto& join : std::vector<std::function<void()>>{
           [] { c10d_transport("none"); }, [] { c10d_engine("none"); }}) {
    EXPECT_THAT(join, testing::ThrowsMessage<InvalidArgument>(
                          HasSubstr("got process group \"none\"")));
  }
}

}  // namespace
}  // namespace ringweave::comm
