#include "ringweave/comm/engine.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/comm/transport_decorator.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;

const TimeOuts kEngineTimeOuts{.start = 20s, .step = 20s};

TEST(Engine, RunsRanksAsThreads) {
  const Engine engine;
  EXPECT_FALSE(engine.is_group());
  EXPECT_EQ(engine.rank(), 0);
  EXPECT_EQ(engine.group_size(), 0);
  EXPECT_EQ(engine.ranks_here(3), 3);
  std::atomic<int> sum{0};
  engine.run(3, kEngineTimeOuts, [&](Communicator& communicator) {
    EXPECT_EQ(communicator.size(), 3);
    communicator.barrier();
    sum += communicator.rank();
  });
  EXPECT_EQ(sum, 3);
  EXPECT_THROW(engine.run(2, kEngineTimeOuts,
                          [](Communicator& communicator) {
                            if (communicator.rank() == 1) {
                              throw std::runtime_error("one fell over");
                            }
                            communicator.barrier();
                          }),
               std::runtime_error);
}

TEST(Engine, WrapsTheThreadsTransports) {
  struct Slow final : TransportDecorator {
    using TransportDecorator::TransportDecorator;
    double seconds() const override { return 7; }
  };
  const Engine engine([](Transports ranks) {
    for (auto& rank : ranks) rank = std::make_shared<Slow>(rank);
    return ranks;
  });
  engine.run(2, kEngineTimeOuts, [](Communicator& communicator) {
    communicator.barrier();
    EXPECT_EQ(communicator.transport().seconds(), 7);
  });
}

TEST(Engine, IsARankOfAGroup) {
  const LocalWorld world(2);
  std::jthread other(
      [&] { Communicator(world.transport(0), kEngineTimeOuts).barrier(); });
  const Engine engine(world.transport(1));
  EXPECT_TRUE(engine.is_group());
  EXPECT_EQ(engine.rank(), 1);
  EXPECT_EQ(engine.group_size(), 2);
  EXPECT_EQ(engine.ranks_here(2), 1);
  int calls = 0;
  const auto here = std::this_thread::get_id();
  engine.run(2, kEngineTimeOuts, [&](Communicator& communicator) {
    ++calls;
    EXPECT_EQ(std::this_thread::get_id(), here);
    EXPECT_EQ(communicator.rank(), 1);
    communicator.barrier();
  });
  EXPECT_EQ(calls, 1);
  EXPECT_THROW(engine.run(3, kEngineTimeOuts, [](Communicator&) {}),
               InternalError);
}

}  // namespace
}  // namespace ringweave::comm
