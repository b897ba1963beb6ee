#include "ringweave/comm/communicator.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/comm/test_messages.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

const TimeOuts kTimeOuts{.start = 20s, .step = 20s};

using Body = std::function<void(Communicator&)>;

RankFunction with_communicator(Body body, TimeOuts time_outs = kTimeOuts) {
  return [body = std::move(body), time_outs](Rank, auto transport) {
    Communicator communicator(std::move(transport), time_outs);
    body(communicator);
  };
}

std::string text_of(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

TEST(Communicator, GathersTextsOfDifferentLengths) {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    run_ranks(
        ranks, with_communicator([&](Communicator& communicator) {
          const auto text = [](Rank rank) {
            return std::string(rank * rank, static_cast<char>('a' + rank));
          };
          const auto all = communicator.all_gather(text(communicator.rank()));
          ASSERT_EQ(all.size(), static_cast<std::size_t>(ranks));
          for (Rank rank = 0; rank < ranks; ++rank) {
            EXPECT_EQ(all[rank], text(rank));
          }
        }));
  }
}

/// Values whose sum depends on the order of the additions.
template <typename T>
std::vector<T> values(Rank rank, std::size_t size) {
  std::mt19937_64 random(17 * rank + size);
  std::uniform_real_distribution<double> mantissa(-1, 1), exponent(-30, 30);
  std::vector<T> result(size);
  for (T& value : result) {
    value = static_cast<T>(mantissa(random) * std::exp2(exponent(random)));
  }
  return result;
}

template <typename T>
void check_sums() {
  for (const int ranks : {1, 2, 3, 4, 5, 7, 8}) {
    for (const std::size_t size : {0, 1, 2, 3, 7, 100, 1001}) {
      std::vector<T> wanted(size);
      for (Rank rank = 0; rank < ranks; ++rank) {
        const std::vector<T> part = values<T>(rank, size);
        for (std::size_t i = 0; i < size; ++i) {
          wanted[i] = rank == 0 ? part[i] : wanted[i] + part[i];
        }
      }
      run_ranks(
          ranks, with_communicator([&](Communicator& communicator) {
            std::vector<T> got = values<T>(communicator.rank(), size);
            communicator.all_reduce_sum(std::span(got));
            ASSERT_TRUE(size == 0 || std::memcmp(got.data(), wanted.data(),
                                                 size * sizeof(T)) == 0)
                << ranks << " ranks, " << size << " values";
          }));
    }
  }
}

TEST(Communicator, SumsInRankOrderWithEqualBits) {
  check_sums<double>();
  check_sums<float>();
}

TEST(Communicator, SumSendsEachPieceOnceEachWay) {
  run_ranks(4, with_communicator([](Communicator& communicator) {
              std::vector<double> all(16, 1);
              communicator.all_reduce_sum(std::span(all));
              const Traffic& traffic = communicator.traffic();
              EXPECT_EQ(traffic.sent.size(), 3u);
              for (const auto& [to, sent] : traffic.sent) {
                EXPECT_EQ(sent.messages, 2);
                EXPECT_EQ(sent.bytes, 2 * 4 * 8);
              }
              EXPECT_EQ(traffic.bytes(), 3 * 2 * 4 * 8);
            }));
}

TEST(Communicator, BarrierWaitsForTheLast) {
  std::atomic<int> arrived{0};
  run_ranks(5, with_communicator([&](Communicator& communicator) {
              std::this_thread::sleep_for(communicator.rank() * 10ms);
              ++arrived;
              communicator.barrier();
              EXPECT_EQ(arrived, 5);
              communicator.barrier();
            }));
}

TEST(Communicator, CollectivesStandDelays) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    run_ranks(
        4, with_communicator([](Communicator& communicator) {
          for (int i = 0; i < 5; ++i) {
            std::vector<double> sum{1.0 * communicator.rank(), 1, 2};
            communicator.all_reduce_sum(std::span(sum));
            ASSERT_EQ(sum, (std::vector<double>{6, 4, 8}));
            const auto texts =
                communicator.all_gather(std::to_string(communicator.rank()));
            ASSERT_EQ(texts, (std::vector<std::string>{"0", "1", "2", "3"}));
            communicator.barrier();
          }
        }),
        {.seed = seed, .max_delay = 1ms});
  }
}

TEST(Communicator, AgreementPassesWhenAllAreEqual) {
  for (const int ranks : {1, 2, 5}) {
    run_ranks(ranks, with_communicator([](Communicator& communicator) {
                communicator.check_agreement({});
                communicator.check_agreement({{"config", "a"}, {"seed", "7"}});
              }));
  }
}

TEST(Communicator, AgreementNamesFactAndRanksOnEveryRank) {
  const auto errors =
      rank_outcomes(5, with_communicator([](Communicator& communicator) {
                      const Rank rank = communicator.rank();
                      communicator.check_agreement(
                          {{"config", "same"},
                           {"plan", rank == 1 || rank == 3 ? "b" : "a"},
                           {"seed", std::to_string(rank)}});
                    }));
  for (const auto& error : errors) {
    EXPECT_THROW(std::rethrow_exception(error), InvalidArgument);
    EXPECT_EQ(text_of(error),
              "[agreement] got plan \"b\" on rank 1; want \"a\" as on rank 0 "
              "(ranks that differ from rank 0: 1, 3)");
  }
}

TEST(Communicator, AgreementNamesFactsThatOnlySomeHave) {
  for (const bool zero_has_it : {true, false}) {
    const auto errors =
        rank_outcomes(3, with_communicator([&](Communicator& communicator) {
                        std::map<std::string, std::string> facts{{"a", "1"}};
                        if ((communicator.rank() == 0) == zero_has_it) {
                          facts["seed"] = "7";
                        }
                        communicator.check_agreement(facts);
                      }));
    for (const auto& error : errors) {
      EXPECT_THROW(std::rethrow_exception(error), InvalidArgument);
      EXPECT_THAT(text_of(error),
                  zero_has_it
                      ? HasSubstr("got seed none on rank 1; want \"7\"")
                      : HasSubstr("got seed \"7\" on rank 1; want none"));
      EXPECT_THAT(text_of(error), HasSubstr(": 1, 2)"));
    }
  }
}

TEST(Communicator, AgreementHasTheStartTimeOut) {
  const auto start = Clock::now();
  const auto errors = rank_outcomes(
      2,
      with_communicator(
          [](Communicator& communicator) { communicator.check_agreement({}); },
          {.start = 100ms, .step = 60s}),
      {.stall = {{.rank = 1, .operation = 0}}});
  EXPECT_LT(Clock::now() - start, 10s);
  EXPECT_THAT(facts(errors[0]).operation, HasSubstr("agreement: "));
  EXPECT_EQ(facts(errors[0]).peer, 1);
  EXPECT_EQ(facts(errors[0]).first_failed, 1);
}

TEST(Communicator, WaitCompletesTheError) {
  const auto errors = rank_outcomes(
      2,
      with_communicator(
          [](Communicator& communicator) {
            std::vector<std::byte> bytes(3);
            if (communicator.rank() == 1) {
              auto work = communicator.send(0, borrowed(std::span(bytes)));
              communicator.wait(*work, "shift", 4);
            } else {
              auto work = communicator.receive(1, borrowed(std::span(bytes)));
              communicator.wait(*work, "shift", 4);
            }
          },
          {.start = 60s, .step = 150ms}),
      {.stall = {{.rank = 1, .operation = 0}}});
  EXPECT_THAT(text_of(errors[0]),
              AllOf(HasSubstr("[shift: receive] rank 0, peer 1, step 4: "
                              "no answer within 0.1"),
                    HasSubstr("(first failed: rank 1)")));
}

TEST(Communicator, ATimeOutLeavesAMark) {
  const LocalWorld world(2);
  Communicator communicator(world.transport(0), {.start = 1s, .step = 20ms});
  std::vector<std::byte> byte(1);
  auto work = communicator.receive(1, borrowed(std::span(byte)));
  EXPECT_THROW(communicator.wait(*work, "test"), CommError);
  EXPECT_EQ(world.transport(1)->first_failed(), 1);
}

/// Another rank timed out on this one, which only waited itself.
TEST(Communicator, ARankDoesNotNameItself) {
  const LocalWorld world(3);
  Communicator communicator(world.transport(0), {.start = 1s, .step = 20ms});
  world.transport(1)->mark_failed(0);
  std::vector<std::byte> byte(1);
  auto work = communicator.receive(2, borrowed(std::span(byte)));
  try {
    communicator.wait(*work, "test");
    ADD_FAILURE() << "no error";
  } catch (const CommError& error) {
    EXPECT_EQ(error.facts().first_failed, -1) << error.what();
  }
}

TEST(Communicator, CountsOnlyTheTimeInWaits) {
  run_ranks(2, with_communicator([](Communicator& communicator) {
              std::vector<std::byte> byte(1);
              if (communicator.rank() == 0) {
                std::this_thread::sleep_for(200ms);
                auto work = communicator.send(1, borrowed(std::span(byte)));
                std::this_thread::sleep_for(50ms);
                communicator.wait(*work, "test");
                EXPECT_LT(communicator.traffic().waiting_seconds(), 0.05);
              } else {
                auto work = communicator.receive(0, borrowed(std::span(byte)));
                communicator.wait(*work, "test");
                EXPECT_GT(communicator.traffic().waiting_seconds(), 0.1);
                EXPECT_LT(communicator.traffic().waiting_seconds(), 5);
                EXPECT_GT(communicator.traffic().waiting_seconds("test"), 0.1);
                EXPECT_EQ(communicator.traffic().waiting_seconds("other"), 0);
              }
            }));
}

TEST(Communicator, ScratchIsReusedAndGrows) {
  Communicator communicator(LocalWorld(1).transport(0));
  const Buffer first = communicator.scratch(100);
  EXPECT_EQ(first.size, 100u);
  EXPECT_EQ(
      reinterpret_cast<std::uintptr_t>(first.data) % device::kBufferAlignment,
      0u);
  EXPECT_EQ(communicator.scratch(100).data, first.data);
  EXPECT_EQ(communicator.scratch(7).data, first.data);
  EXPECT_EQ(communicator.scratch(7).size, 7u);
  first.data[99] = std::byte{7};

  const Buffer larger = communicator.scratch(1000);
  EXPECT_NE(larger.data, first.data);
  EXPECT_EQ(communicator.scratch(100).data, larger.data);
  // Its holder is the only one left, and keeps it.
  EXPECT_EQ(first.owner.use_count(), 1);
  EXPECT_EQ(first.data[99], std::byte{7});
}

TEST(Communicator, CountsEveryMessageOfABatch) {
  run_ranks(3, with_communicator([](Communicator& communicator) {
              const Rank to = (communicator.rank() + 1) % 3;
              const Rank from = (communicator.rank() + 2) % 3;
              const Buffer memory = allocate_buffer(100);
              const std::vector<Receive> receives{{from, memory.slice(0, 10)},
                                                  {from, memory.slice(10, 30)}};
              const std::vector<Send> sends{{to, memory.slice(40, 10)},
                                            {to, memory.slice(50, 30)}};
              for (auto& work : communicator.post({receives, sends})) {
                communicator.block(*work, {}, "test");
              }
              EXPECT_EQ(communicator.traffic().sent.size(), 1u);
              EXPECT_EQ(communicator.traffic().sent[to].messages, 2);
              EXPECT_EQ(communicator.traffic().bytes(), 40);
              EXPECT_TRUE(communicator.post({}).empty());
            }));
}

TEST(Communicator, ChecksItsArguments) {
  const LocalWorld world(2);
  Communicator communicator(world.transport(0));
  std::vector<std::byte> byte(1);
  EXPECT_THROW(communicator.send(0, borrowed(std::span(byte))), InternalError);
  EXPECT_THROW(communicator.send(1, {}), InternalError);
  EXPECT_THROW(communicator.receive(2, borrowed(std::span(byte))),
               InternalError);
  EXPECT_THROW(communicator.receive(1, {}), InternalError);
  EXPECT_EQ(communicator.traffic().bytes(), 0);
  EXPECT_THROW(Communicator(world.transport(0), {.start = 0s}),
               InvalidArgument);
}

}  // namespace
}  // namespace ringweave::comm
