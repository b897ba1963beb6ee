#include "ringweave/comm/bucket_sum.h"

#include <chrono>
#include <cmath>
#include <functional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::comm {
namespace {

using ::testing::HasSubstr;

/// Sums of which the order matters in the last bits.
template <typename T>
std::vector<T> values_of(Rank rank, std::size_t size) {
  std::vector<T> values(size);
  for (std::size_t i = 0; i < size; ++i) {
    values[i] =
        static_cast<T>(std::sin(static_cast<double>(i + 1) * (rank + 1)) *
                       std::pow(10, rank % 3));
  }
  return values;
}

/// From the end, as backward makes gradients.
std::vector<Range> backwards(const std::vector<std::int64_t>& borders) {
  std::vector<Range> buckets;
  for (std::size_t i = borders.size() - 1; i > 0; --i) {
    buckets.push_back({borders[i - 1], borders[i]});
  }
  return buckets;
}

template <typename T>
void expect_all_reduce(int ranks, const std::vector<std::int64_t>& borders,
                       BucketSum::Result result) {
  run_ranks(ranks, [&](Rank rank, std::shared_ptr<Transport> transport) {
    Communicator communicator(transport);
    const auto size = static_cast<std::size_t>(borders.back());
    std::vector<T> want = values_of<T>(rank, size);
    communicator.all_reduce_sum(std::span<T>(want));
    std::vector<T> got = values_of<T>(rank, size);
    const std::vector<Range> buckets = backwards(borders);
    BucketSum sum(std::span<T>(got), buckets, result, communicator);
    for (std::size_t i = 0; i < buckets.size(); ++i) {
      ASSERT_EQ(sum.next(), i);
      sum.post(i);
      // Other messages in between, as those of a layer's backward.
      communicator.barrier();
    }
    sum.finish();
    const Range all = {0, borders.back()};
    const Range valid =
        result == BucketSum::Result::everywhere ? all : cut(all, rank, ranks);
    for (std::int64_t i = valid.begin; i < valid.end; ++i) {
      ASSERT_EQ(got[static_cast<std::size_t>(i)],
                want[static_cast<std::size_t>(i)])
          << "rank " << rank << ", value " << i;
    }
  });
}

TEST(BucketSum, HasTheBitsOfAnAllReduce) {
  for (const int ranks : {1, 2, 3, 4, 5, 7, 8}) {
    for (const auto& borders : std::vector<std::vector<std::int64_t>>{
             {0, 100}, {0, 1, 2, 50, 100}, {0, 40, 40, 41}, {0, 3}}) {
      for (const auto result :
           {BucketSum::Result::everywhere, BucketSum::Result::pieces}) {
        expect_all_reduce<float>(ranks, borders, result);
        expect_all_reduce<double>(ranks, borders, result);
      }
    }
  }
}

TEST(BucketSum, CountsItsWaiting) {
  run_ranks(2, [](Rank rank, std::shared_ptr<Transport> transport) {
    Communicator communicator(transport);
    std::vector<float> values(10);
    BucketSum sum(std::span<float>(values), {{0, 10}},
                  BucketSum::Result::everywhere, communicator);
    if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    sum.post(0);
    sum.finish();
    if (rank == 0) {
      EXPECT_GT(sum.waiting_seconds(), 0.02);
    }
    EXPECT_LE(sum.waiting_seconds(), communicator.traffic().waiting_seconds());
  });
}

/// What ranks throw when rank 1 does it in another way.
std::vector<std::string> faults(
    const std::function<void(BucketSum& sum, Communicator&)>& of_one,
    const std::function<void(BucketSum& sum, Communicator&)>& of_others) {
  const auto outcomes =
      rank_outcomes(3, [&](Rank rank, std::shared_ptr<Transport> transport) {
        Communicator communicator(transport,
                                  {.start = std::chrono::seconds(20),
                                   .step = std::chrono::seconds(20)});
        std::vector<double> values(30);
        BucketSum sum(std::span<double>(values), {{20, 30}, {0, 20}},
                      BucketSum::Result::everywhere, communicator);
        (rank == 1 ? of_one : of_others)(sum, communicator);
      });
  std::vector<std::string> texts;
  for (const auto& outcome : outcomes) {
    try {
      if (outcome) std::rethrow_exception(outcome);
      texts.push_back("");
    } catch (const Error& error) {
      texts.push_back(error.what());
    }
  }
  return texts;
}

TEST(BucketSum, AnotherOrderIsAnErrorOnAllRanks) {
  const auto in_order = [](BucketSum& sum, Communicator&) {
    sum.post(0);
    sum.post(1);
    sum.finish();
  };
  const auto reordered =
      faults([](BucketSum& sum, Communicator&) { sum.post(1); }, in_order);
  EXPECT_THAT(reordered[1], HasSubstr("bucket 1 of 2 posted after 0 others"));
  EXPECT_THAT(reordered[0], HasSubstr("rank 1"));
  EXPECT_THAT(reordered[2], HasSubstr("rank 1"));
  const auto missing = faults(
      [](BucketSum& sum, Communicator&) {
        sum.post(0);
        sum.finish();
      },
      in_order);
  EXPECT_THAT(missing[1], HasSubstr("1 of 2 buckets posted"));
}

// A bucket posted on another side of a layer's message meets that message.
TEST(BucketSum, AnotherPlaceAmongOtherMessagesIsAnError) {
  const auto before = [](BucketSum& sum, Communicator& communicator) {
    sum.post(0);
    communicator.barrier();
    sum.post(1);
    sum.finish();
  };
  const auto behind = [](BucketSum& sum, Communicator& communicator) {
    communicator.barrier();
    sum.post(0);
    sum.post(1);
    sum.finish();
  };
  const auto texts = faults(behind, before);
  EXPECT_THAT(texts[1], HasSubstr("bytes"));
  EXPECT_THAT(texts[0],
              testing::AnyOf(HasSubstr("bytes"), HasSubstr("rank 1")));
}

}  // namespace
}  // namespace ringweave::comm
