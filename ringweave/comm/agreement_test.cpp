#include "ringweave/comm/agreement.h"

#include <atomic>
#include <functional>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/comm/local_transport.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::AnyOf;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

/// What `body` threw on each rank, empty where it returned. Ranks that threw
/// stay until all are done, as processes that catch the error do.
std::vector<std::string> texts(
    int ranks, const std::function<void(Rank, Agreement&)>& body,
    std::chrono::milliseconds time_out = 20s) {
  std::vector<std::string> result(ranks);
  std::atomic<int> running = ranks;
  run_ranks(ranks, [&](Rank rank, std::shared_ptr<Transport> transport) {
    Agreement agreement(std::move(transport), time_out);
    try {
      body(rank, agreement);
    } catch (const Error& error) {
      result[rank] = error.what();
    }
    --running;
    while (running > 0) std::this_thread::sleep_for(1ms);
  });
  return result;
}

const Facts kFacts = {{"heads", "4"}, {"type", "float32"}};

Facts with(const std::string& name, const std::string& text) {
  Facts facts = kFacts;
  for (auto& fact : facts) {
    if (fact.first == name) fact.second = text;
  }
  return facts;
}

TEST(Agreement, EqualCallsHaveEqualNumbers) {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    for (const AgreementMode mode :
         {AgreementMode::every, AgreementMode::first_use, AgreementMode::off}) {
      const auto errors = texts(ranks, [&](Rank, Agreement& agreement) {
        agreement.set_mode(mode);
        const std::int64_t before = agreement.calls();
        for (int i = 1; i <= 40; ++i) {
          EXPECT_EQ(agreement.agree(i % 3 == 0 ? "a" : "b", kFacts),
                    before + i);
        }
      });
      EXPECT_THAT(errors, Each(IsEmpty())) << ranks << name(mode);
    }
  }
}

/// Rank 1's call is `odd`, the others' is `usual`; then all make equal ones.
std::set<std::string> difference(int ranks,
                                 const std::function<void(Agreement&)>& usual,
                                 const std::function<void(Agreement&)>& odd) {
  std::vector<std::string> seen(ranks);
  const auto later = texts(ranks, [&](Rank rank, Agreement& agreement) {
    agreement.agree("attention", kFacts);
    try {
      rank == 1 ? odd(agreement) : usual(agreement);
    } catch (const Disagreement& error) {
      seen[rank] = error.what();
    }
    agreement.agree("attention", kFacts);
  });
  EXPECT_THAT(later, Each(IsEmpty()));
  return {seen.begin(), seen.end()};
}

TEST(Agreement, ADifferenceIsOneErrorEverywhereAndTheGroupGoesOn) {
  const auto usual = [](Agreement& agreement) {
    agreement.agree("attention", kFacts);
  };
  for (const int ranks : {2, 3, 5}) {
    EXPECT_THAT(
        difference(ranks, usual,
                   [](Agreement& agreement) {
                     agreement.agree("attention", with("heads", "2"));
                   }),
        testing::ElementsAre("[attention, call 2] got heads \"2\" on rank 1; "
                             "want \"4\" as on rank 0 (ranks that differ from "
                             "rank 0: 1)"));
    EXPECT_THAT(difference(ranks, usual,
                           [](Agreement& agreement) {
                             agreement.agree("unshard", {{"dim", "1"}});
                           }),
                testing::ElementsAre(
                    AllOf(HasSubstr("got operation \"unshard\" on rank 1"),
                          HasSubstr("want \"attention\" as on rank 0"))));
    EXPECT_THAT(difference(
                    ranks,
                    [](Agreement& agreement) {
                      agreement.agree("attention backward", {}, 1);
                    },
                    [](Agreement& agreement) {
                      agreement.agree("attention backward", {}, 2);
                    }),
                testing::ElementsAre(
                    AllOf(HasSubstr("got call of its forward \"2\" on rank 1"),
                          HasSubstr("want \"1\""))));
  }
}

TEST(Agreement, LongFactsDifferWhereverTheyDo) {
  const std::string text(5000, 'x');
  const auto seen = difference(
      3,
      [&](Agreement& agreement) {
        agreement.agree("attention", with("type", text + "a"));
      },
      [&](Agreement& agreement) {
        agreement.agree("attention", with("type", text + "b"));
      });
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_THAT(*seen.begin(), AllOf(HasSubstr("got type \"xxx"),
                                   HasSubstr("… (5001 bytes, hash ")));
  EXPECT_LT(seen.begin()->size(), 600u);
}

TEST(Agreement, ARefusalIsOneErrorEverywhere) {
  for (const int ranks : {2, 3, 5}) {
    EXPECT_THAT(
        difference(
            ranks,
            [](Agreement& agreement) { agreement.agree("attention", kFacts); },
            [](Agreement& agreement) {
              agreement.refuse("unshard", "got 3 tokens; want 4\nat …");
            }),
        testing::ElementsAre(
            "[unshard, call 2] refused on rank 1: got 3 tokens; want 4"));
  }
  // Longer than any room for it, and cut inside a character.
  std::string reason;
  while (reason.size() < 20'000) reason += "€ä";
  const auto seen = difference(
      3, [](Agreement& agreement) { agreement.refuse("attention", "so"); },
      [&](Agreement& agreement) { agreement.refuse("attention", reason); });
  EXPECT_THAT(seen, testing::ElementsAre(
                        "[attention, call 2] refused on rank 0: so (ranks that "
                        "refused: 0, 1, 2)"));
}

TEST(Agreement, WhatAllRefuseAlikeIsLeftToTheCaller) {
  const auto refuse = [](Agreement& agreement) {
    agreement.refuse("attention", "got 3 heads");
  };
  EXPECT_THAT(difference(3, refuse, refuse), Each(IsEmpty()));
}

TEST(Agreement, ARankThatDoesNotCallIsNamed) {
  constexpr const char* kAbsent = "no such call of rank 2 within 0.2 s";
  const auto errors = texts(
      4,
      [](Rank rank, Agreement& agreement) {
        agreement.agree("attention", kFacts);
        if (rank != 2) agreement.agree("unshard", kFacts);
      },
      200ms);
  for (const Rank rank : {0, 1, 3}) {
    // Who waited from a later moment on may hear of it first.
    EXPECT_THAT(errors[rank],
                AllOf(HasSubstr("[unshard, call 2]"), HasSubstr("peer 2"),
                      AnyOf(HasSubstr(kAbsent), HasSubstr("rank 2 failed")),
                      HasSubstr("first failed: rank 2")));
  }
  EXPECT_THAT(errors, Contains(HasSubstr(kAbsent)));
}

TEST(Agreement, FirstUseFindsADifferenceSomeCallsLater) {
  const auto errors = texts(3, [](Rank rank, Agreement& agreement) {
    agreement.set_mode(AgreementMode::first_use);
    agreement.agree("attention", with("heads", "2"));
    agreement.agree("attention", kFacts);
    agreement.agree("attention", with("heads", rank == 1 ? "2" : "4"));
    for (int i = 0; i < 20; ++i) agreement.agree("attention", kFacts);
  });
  EXPECT_THAT(errors,
              Each("[attention, call 4] got heads \"2\" on rank 1; want \"4\" "
                   "as on rank 0 (ranks that differ from rank 0: 1)"));
}

TEST(Agreement, ModesMustBeEqual) {
  const auto errors = texts(3, [](Rank rank, Agreement& agreement) {
    agreement.set_mode(rank == 2 ? AgreementMode::off : AgreementMode::every);
  });
  EXPECT_THAT(errors, Each(HasSubstr("got mode \"off\" on rank 2")));
  EXPECT_THAT([] { agreement_mode_from_name("evry"); },
              testing::ThrowsMessage<InvalidArgument>(HasSubstr("every")));
}

void nothing() {}
const auto kNoFacts = [] { return Facts(); };

/// What each of three ranks, whose communicators compare their calls, threw.
std::vector<std::string> with_communicators(
    const std::function<void(Communicator&)>& body) {
  constexpr int kRanks = 3;
  const LocalWorld data(kRanks);
  std::vector<std::string> result(kRanks);
  run_ranks(kRanks, [&](Rank rank, std::shared_ptr<Transport> control) {
    Communicator communicator(data.transport(rank));
    communicator.set_agreement(
        std::make_unique<Agreement>(std::move(control), 20s));
    try {
      body(communicator);
    } catch (const Error& error) {
      result[rank] = error.what();
    }
  });
  return result;
}

TEST(AgreedCall, RunsOnlyWhereAllRanksAgree) {
  std::atomic<int> runs = 0;
  const auto errors = with_communicators([&](Communicator& communicator) {
    const auto check = [&] {
      require(communicator.rank() != 1, "rank 1 can't");
    };
    const auto run = [&](std::int64_t number) {
      communicator.barrier();
      ++runs;
      return number;
    };
    EXPECT_THROW(communicator.call("first", 0, check, kNoFacts, run), Error);
    EXPECT_EQ(runs, 0);
    EXPECT_EQ(communicator.call("second", 0, nothing, kNoFacts, run), 2);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
  EXPECT_EQ(runs, 3);
}

TEST(AgreedCall, AFailureWhileItRunsEndsTheGroup) {
  const auto errors = with_communicators([](Communicator& communicator) {
    const auto run = [&](std::int64_t) {
      require(communicator.rank() != 1, "no memory");
      communicator.barrier();
    };
    try {
      communicator.call("first", 0, nothing, kNoFacts, run);
    } catch (const CommError& error) {
      EXPECT_NE(communicator.rank(), 1);
      EXPECT_EQ(error.facts().first_failed, 1) << error.what();
    } catch (const InvalidArgument& error) {
      EXPECT_STREQ(error.what(), "no memory");
    }
    communicator.call("second", 0, nothing, kNoFacts, run);
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("[second]"),
                                 HasSubstr("can't be used any more"))));
  EXPECT_THAT(errors[1], HasSubstr("no memory"));
}

/// Who waits in vain need not know which rank failed, but it was another one.
TEST(AgreedCall, ARankThatNoticesAFailureLeavesNoMarkOfItself) {
  const LocalWorld data(2), control(2);
  Communicator communicator(data.transport(0));
  communicator.set_agreement(std::make_unique<Agreement>(
      control.transport(0), 20s, AgreementMode::off));
  const auto run = [](std::int64_t) {
    throw CommError(
        {.rank = 0, .peer = 1, .operation = "receive", .cause = "late"});
  };
  EXPECT_THROW(communicator.call("first", 0, nothing, kNoFacts, run),
               CommError);
  EXPECT_EQ(data.transport(1)->first_failed(), std::nullopt);
}

TEST(AgreedCall, NothingIsComparedWithoutAnAgreement) {
  run_ranks(2, [](Rank rank, std::shared_ptr<Transport> transport) {
    Communicator communicator(std::move(transport));
    EXPECT_EQ(communicator.call(rank == 0 ? "a" : "b", 0, nothing, kNoFacts,
                                [](std::int64_t number) { return number; }),
              0);
  });
}

}  // namespace
}  // namespace ringweave::comm
