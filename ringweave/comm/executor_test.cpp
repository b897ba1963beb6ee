#include "ringweave/comm/executor.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/exchange_check.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/device/accelerator.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

using Int = std::int64_t;
const TimeOuts kExecutorTimeOuts{.start = 20s, .step = 20s};

/// Runs forward and backward of one case on all ranks, and checks everything.
void run_case(const schedule::Strategy& strategy,
              const schedule::AttentionDemand& demand,
              FaultInjection faults = {}) {
  const int strands = strand_count(strategy, demand.ranks());
  validate(whole(strategy, demand, schedule::Pass::forward), demand, strands);
  validate(whole(strategy, demand, schedule::Pass::backward), demand, strands);
  run_ranks(
      demand.ranks(),
      [&](Rank, auto transport) {
        Communicator communicator(std::move(transport), kExecutorTimeOuts);
        check_exchange(strategy, demand, communicator);
      },
      faults);
}

TEST(Executor, EveryStrategyOnEveryNumberOfRanks) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const auto strategies = schedule::test_strategies(ranks);
    EXPECT_GE(strategies.size(), 5u);
    for (const schedule::Strategy& strategy : strategies) {
      SCOPED_TRACE(testing::Message() << name(strategy) << ", " << ranks);
      for (const schedule::Mask& mask :
           {schedule::Mask::full(), schedule::Mask::causal()}) {
        const auto layout = schedule::Layout::zigzag(16 * ranks + 5, ranks);
        run_case(strategy, schedule::AttentionDemand(layout, layout, mask));
      }
    }
  }
}

schedule::Layout random_layout(std::mt19937& random, Int tokens, int ranks) {
  switch (random() % 4) {
    case 0:
      return schedule::Layout::contiguous(tokens, ranks);
    case 1:
      return schedule::Layout::zigzag(tokens, ranks);
    case 2:
      return schedule::Layout::striped(tokens, ranks);
    default: {
      std::vector<Int> lengths(ranks, 0);
      for (Int rest = tokens; rest > 0;) {
        const Int length = std::min<Int>(rest, 1 + random() % 9);
        lengths[random() % ranks] += length;
        rest -= length;
      }
      return schedule::Layout::contiguous(lengths);
    }
  }
}

schedule::Mask random_mask(std::mt19937& random, Int tokens) {
  schedule::Mask mask =
      random() % 3 == 0 ? schedule::Mask::full() : schedule::Mask::causal();
  if (random() % 3 == 0) {
    schedule::Window window;
    if (random() % 4 != 0) window.left = random() % (tokens + 1);
    if (random() % 2 != 0) window.right = random() % (tokens + 1);
    mask = mask.with_window(window);
  }
  if (random() % 3 == 0 && tokens > 1) {
    std::set<Int> offsets{0, tokens};
    for (int i = 0; i < 4; ++i) offsets.insert(random() % tokens);
    mask = mask.with_documents({offsets.begin(), offsets.end()});
  }
  return mask;
}

TEST(Executor, RandomCasesWithDelays) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed);
    const int ranks = 1 + static_cast<int>(random() % 8);
    const Int tokens = 1 + static_cast<Int>(random() % 70);
    const auto q_layout = random_layout(random, tokens, ranks);
    const auto kv_layout =
        random() % 4 == 0 ? random_layout(random, tokens, ranks) : q_layout;
    const schedule::AttentionDemand demand(q_layout, kv_layout,
                                           random_mask(random, tokens));
    const auto strategies = schedule::test_strategies(ranks);
    const auto& strategy = strategies[random() % strategies.size()];
    SCOPED_TRACE(testing::Message()
                 << "seed " << seed << ": " << name(strategy) << ", " << ranks
                 << " ranks, " << tokens << " tokens");
    run_case(strategy, demand,
             {.seed = seed, .max_delay = 1us * (random() % 300)});
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

/// Blocks of ring_of_three(): two parts of each owner, of 2 and 3 tokens.
schedule::AttentionDemand demand_of_three() {
  std::vector<std::vector<schedule::Run>> runs;
  for (Rank owner = 0; owner < 3; ++owner) {
    runs.push_back({{5 * owner, 2, 1}, {5 * owner + 2, 3, 1}});
  }
  const auto layout = schedule::Layout::from_runs(15, runs);
  return {layout, layout, schedule::Mask::full()};
}

schedule::Program program_of_three(Rank rank) {
  schedule::Schedule schedule = schedule::ring_of_three();
  const auto in_order = [](const auto& a, const auto& b) {
    return before(a, b);
  };
  std::ranges::sort(schedule.transfers, in_order);
  std::ranges::sort(schedule.tiles, in_order);
  return compile(schedule, rank, demand_of_three(), 1);
}

/// Memory for ring_of_three().
class RingMemory {
 public:
  ProgramMemory operator()() {
    ProgramMemory memory;
    PayloadMemory& keys = memory[schedule::Payload::kv];
    keys.unit_bytes = sizeof(Int);
    keys.packed = borrowed(std::span(packed_));
    keys.scratch = borrowed(std::span(scratch_));
    return memory;
  }

 private:
  std::vector<Int> packed_ = std::vector<Int>(5);
  std::vector<Int> scratch_ = std::vector<Int>(10);
};

/// Computes nothing; can fail in a step.
class RingWorker final : public Worker {
 public:
  explicit RingWorker(int fail_step) : fail_step_(fail_step) {}
  void arrived(int) override {}
  void compute(int step) override {
    if (step == fail_step_) throw std::runtime_error("no memory");
  }

 private:
  int fail_step_;
};

/// An accelerator whose host is told when it waits for a mark.
class CountingAccelerator final : public device::Accelerator {
 public:
  Buffer allocate(std::size_t bytes, const Stream&) const override {
    return allocate_buffer(bytes);
  }
  device::SharedMark mark(const Stream&) const override {
    ++marks;
    return std::make_shared<Counted>(*this);
  }
  std::unique_ptr<device::CopyLane> lane(const Device&,
                                         const Device&) const override {
    return nullptr;
  }

  mutable int marks = 0;
  mutable int waits = 0;

 private:
  struct Counted final : device::Mark {
    explicit Counted(const CountingAccelerator& of) : of(of) {}
    void block(const Stream&) const override {}
    bool passed() const override { return false; }
    void wait() const override { ++of.waits; }
    const CountingAccelerator& of;
  };
};

const CountingAccelerator kAccelerator;
const Stream kStream{.device = {&kAccelerator, 1}, .id = 5};

/// Writes down what it is asked for; everything succeeds at once.
class RecordingTransport final : public Transport {
 public:
  explicit RecordingTransport(std::vector<std::string>& log) : log_(log) {}
  Rank rank() const override { return 1; }
  int size() const override { return 3; }
  Works post(const Batch& batch, const Stream& stream) override {
    EXPECT_EQ(stream, kStream);
    log_.push_back("post");
    Works works;
    for (const Receive& receive : batch.receives) {
      works.push_back(add("receive", receive.from));
    }
    for (const Send& send : batch.sends) works.push_back(add("send", send.to));
    return works;
  }
  void mark_failed(Rank) override {}
  std::optional<Rank> first_failed() override { return {}; }

 private:
  struct RecordingWork final : Work {
    RecordingWork(std::vector<std::string>& log, std::string name)
        : log(log), name(std::move(name)) {}
    void wait(Clock::time_point) override { FAIL() << "the host waits"; }
    void block(const Stream& stream, Clock::time_point) override {
      EXPECT_EQ(stream, kStream);
      log.push_back("block " + name);
    }
    std::vector<std::string>& log;
    std::string name;
  };
  std::unique_ptr<Work> add(const std::string& what, Rank peer) {
    log_.push_back(what + " " + std::to_string(peer));
    return std::make_unique<RecordingWork>(log_, log_.back());
  }
  std::vector<std::string>& log_;
};

TEST(Executor, ComputesWhileItsTransfersAreUnderWay) {
  std::vector<std::string> log;
  struct RecordingWorker final : Worker {
    explicit RecordingWorker(std::vector<std::string>& log) : log(log) {}
    void arrived(int step) override {
      log.push_back("arrived " + std::to_string(step));
    }
    void compute(int step) override {
      log.push_back("compute " + std::to_string(step));
    }
    std::vector<std::string>& log;
  } worker(log);
  Communicator communicator(std::make_shared<RecordingTransport>(log));
  RingMemory memory;
  execute(program_of_three(1), memory(), worker, communicator, "test", kStream);
  EXPECT_THAT(
      log, ElementsAre("post", "receive 0", "send 2", "compute 0",
                       "block receive 0", "arrived 1", "block send 2", "post",
                       "receive 0", "send 2", "compute 1", "block receive 0",
                       "arrived 2", "block send 2", "compute 2"));
}

TEST(Executor, TheHostIsAFewStepsAheadOfADevice) {
  std::vector<std::string> log;
  Communicator communicator(std::make_shared<RecordingTransport>(log));
  RingMemory memory;
  RingWorker worker(-1);
  schedule::Program program = program_of_three(1);
  const std::size_t steps = 9;
  program.steps.resize(steps);
  const int marks = kAccelerator.marks;
  const int waits = kAccelerator.waits;
  execute(program, memory(), worker, communicator, "test", kStream);
  EXPECT_EQ(kAccelerator.marks - marks, static_cast<int>(steps));
  EXPECT_EQ(kAccelerator.waits - waits, static_cast<int>(steps) - 4);
}

TEST(Executor, AFailingWorkerIsNamedToTheOthers) {
  const auto errors = rank_outcomes(3, [](Rank rank, auto transport) {
    Communicator communicator(std::move(transport), kExecutorTimeOuts);
    RingWorker worker(rank == 2 ? 0 : -1);
    RingMemory memory;
    execute(program_of_three(rank), memory(), worker, communicator, "test");
  });
  EXPECT_THROW(std::rethrow_exception(errors[2]), std::runtime_error);
  for (const Rank rank : {0, 1}) {
    ASSERT_NE(errors[rank], nullptr);
    try {
      std::rethrow_exception(errors[rank]);
    } catch (const CommError& error) {
      EXPECT_EQ(error.facts().first_failed, 2);
      EXPECT_GE(error.facts().step, 1);
      EXPECT_THAT(error.what(), HasSubstr("[test: "));
    }
  }
}

TEST(Executor, AStalledRankEndsTheOthersInTime) {
  const auto start = Clock::now();
  std::int64_t operation = 0;
  for (bool stalled = true; stalled; operation += stalled ? 1 : 0) {
    const auto errors =
        rank_outcomes(3,
                      [](Rank rank, auto transport) {
                        Communicator communicator(std::move(transport),
                                                  {.start = 1s, .step = 100ms});
                        RingWorker worker(-1);
                        RingMemory memory;
                        execute(program_of_three(rank), memory(), worker,
                                communicator, "test");
                      },
                      {.stall = {{.rank = 1, .operation = operation}}});
    stalled = errors[0] || errors[2];
    for (const Rank rank : {0, 2}) {
      if (operation >= 2 && !errors[rank]) continue;  // was served in time
      ASSERT_NE(errors[rank], nullptr) << operation;
      try {
        std::rethrow_exception(errors[rank]);
      } catch (const CommError& error) {
        EXPECT_EQ(error.facts().first_failed, 1) << error.what();
      }
    }
  }
  EXPECT_GE(operation, 4);  // rank 1's sends and receives
  EXPECT_LT(Clock::now() - start, 10s);
}

}  // namespace
}  // namespace ringweave::comm
