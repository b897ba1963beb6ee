#include "ringweave/comm/questions.h"

#include <chrono>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAreArray;

/// Bytes that `from` asks `to`: some pairs have none.
std::size_t size_between(Rank from, Rank to) {
  return static_cast<std::size_t>((from * 3 + to * 5) % 4);
}

std::byte byte_of(int value) { return static_cast<std::byte>(value & 255); }

/// Asks with `from`, `to` and the place; is answered with their sum, once more
/// than asked.
class Sums final : public Questions {
 public:
  explicit Sums(Rank rank) : rank_(rank) {}

  std::size_t question_bytes(Rank from, Rank to) const override {
    return size_between(from, to);
  }
  std::size_t answer_bytes(Rank from, Rank to) const override {
    return size_between(from, to) + 1;
  }
  Buffer question(Rank to) override {
    Buffer buffer = allocate_buffer(size_between(rank_, to));
    for (std::size_t i = 0; i < buffer.size; ++i) {
      buffer.data[i] = byte_of(rank_ * 16 + to + static_cast<int>(i));
    }
    return buffer;
  }
  void answer(Rank from, const Buffer& question,
              const Buffer& answer) override {
    ASSERT_EQ(question.size, size_between(from, rank_));
    ASSERT_EQ(answer.size, question.size + 1);
    answered.push_back(from);
    int sum = 0;
    for (std::size_t i = 0; i < question.size; ++i) {
      sum += static_cast<int>(question.data[i]);
    }
    for (std::size_t i = 0; i < answer.size; ++i) {
      answer.data[i] = byte_of(sum + rank_);
    }
  }
  void own() override { ++owns; }
  void take(Rank to, const Buffer& answer) override {
    taken.push_back(to);
    int sum = to;
    for (std::size_t i = 0; i < size_between(rank_, to); ++i) {
      sum += rank_ * 16 + to + static_cast<int>(i);
    }
    for (std::size_t i = 0; i < answer.size; ++i) {
      EXPECT_EQ(answer.data[i], byte_of(sum));
    }
  }

  std::vector<Rank> answered, taken;
  int owns = 0;

 private:
  Rank rank_;
};

TEST(Questions, AllAreAnsweredInOrder) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (const int ahead : {1, 2, 7}) {
      run_ranks(
          ranks,
          [&](Rank rank, auto transport) {
            Communicator communicator(std::move(transport),
                                      {.start = 20s, .step = 20s});
            Sums sums(rank);
            // Twice, as what is left of one call would spoil the next.
            for (int i = 0; i < 2; ++i) {
              sums.answered.clear();
              sums.taken.clear();
              ask_all(communicator, sums, ahead, "sums");
              std::vector<Rank> asked, askers;
              for (int s = 1; s < ranks; ++s) {
                const Rank to = (rank + s) % ranks;
                const Rank from = (rank - s + ranks) % ranks;
                if (size_between(rank, to) > 0) asked.push_back(to);
                if (size_between(from, rank) > 0) askers.push_back(from);
              }
              EXPECT_THAT(sums.taken, ElementsAreArray(asked));
              EXPECT_THAT(sums.answered, ElementsAreArray(askers));
            }
            EXPECT_EQ(sums.owns, 2);
          },
          {.seed = static_cast<std::uint64_t>(ranks), .max_delay = 300us});
    }
  }
}

TEST(Questions, ARankThatFailsEndsTheOthers) {
  EXPECT_THROW(
      run_ranks(4,
                [](Rank rank, auto transport) {
                  Communicator communicator(std::move(transport),
                                            {.start = 20s, .step = 20s});
                  Sums sums(rank);
                  for (int i = 0; i < 50; ++i) {
                    ask_all(communicator, sums, 2, "sums");
                  }
                },
                {.kill = FaultInjection::At{.rank = 2, .operation = 9}}),
      Error);
}

}  // namespace
}  // namespace ringweave::comm
