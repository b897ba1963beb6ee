#include <chrono>
#include <memory>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/agreement.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/convolution/problems.h"

namespace ringweave::convolution {
namespace {

/// Calls on one rank; every argument can be changed before.
struct Arguments {
  at::Tensor x = at::ones({1, 6, 3}, at::kDouble);
  at::Tensor weight = at::ones({3, 4}, at::kDouble);
  at::Tensor bias, state;
  int plan_ranks = 1;

  void call() const {
    comm::run_ranks(1, [&](Rank, std::shared_ptr<comm::Transport> t) {
      Communicator communicator(std::move(t));
      causal_convolution(
          x, weight, bias, state,
          make_convolution_plan(
              {.layout = Layout::contiguous(6, plan_ranks), .width = 4}, 0),
          communicator);
    });
  }
};

void expect_error(const Arguments& arguments, const std::string& text) {
  EXPECT_THAT(
      [&] { arguments.call(); },
      testing::ThrowsMessage<InvalidArgument>(testing::HasSubstr(text)));
}

TEST(Convolution, RejectsBadArguments) {
  EXPECT_NO_THROW(Arguments{}.call());
  Arguments a;
  a.x = at::ones({1, 5, 3}, at::kDouble);
  expect_error(a, "got x of shape (1, 5, 3); want (1, 6, 3)");
  a = {};
  a.x = at::ones({6, 3}, at::kDouble);
  expect_error(a, "got x of 2 dimensions");
  a = {};
  a.x = at::Tensor();
  expect_error(a, "got x of 0 dimensions");
  a = {};
  a.x = a.x.to(at::kLong);
  expect_error(a, "want float64, float32, bfloat16 or float16");
  a = {};
  a.x = a.x.to(at::kMeta);
  expect_error(a, "got x on meta; want cpu");
  a = {};
  a.x = at::ones({0, 6, 3}, at::kDouble);
  expect_error(a, "want at least one of the batch");
  a = {};
  a.weight = at::ones({3, 3}, at::kDouble);
  expect_error(a, "got weight of shape (3, 3); want (3, 4)");
  a = {};
  a.weight = a.weight.to(at::kFloat);
  expect_error(a, "got weight of type Float; want Double");
  a = {};
  a.weight = at::Tensor();
  expect_error(a, "got no weight; want shape (3, 4)");
  a = {};
  a.bias = at::ones({4}, at::kDouble);
  expect_error(a, "got bias of shape (4); want (3)");
  a = {};
  a.state = at::ones({1, 4, 3}, at::kDouble);
  expect_error(a, "got initial_state of shape (1, 4, 3); want (1, 3, 3)");
  a = {};
  a.plan_ranks = 2;
  expect_error(a, "got the plan of rank 0 of 2");
}

TEST(Convolution, WantsFp32WeightsForBfloat16) {
  Arguments a;
  a.x = a.x.to(at::kBFloat16);
  a.weight = a.weight.to(at::kBFloat16);
  expect_error(a, "got weight of type BFloat16; want Float");
  a.weight = a.weight.to(at::kFloat);
  EXPECT_NO_THROW(a.call());
  a.state = at::ones({1, 3, 3}, at::kFloat);
  expect_error(a, "got initial_state of type Float; want BFloat16");
}

TEST(Convolution, SecondDerivativesAreAnError) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> t) {
    Communicator communicator(std::move(t));
    const at::Tensor x = leaf(at::ones({1, 4, 2}, at::kDouble));
    const auto plan = make_convolution_plan(
        {.layout = Layout::contiguous(4, 1), .width = 2}, 0);
    const at::Tensor out = causal_convolution(x, at::ones({2, 2}, at::kDouble),
                                              {}, {}, plan, communicator)
                               .out;
    EXPECT_THAT([&] { out.sum().backward({}, true, true); },
                testing::ThrowsMessage<InvalidArgument>(
                    testing::HasSubstr("second derivatives")));
  });
}

TEST(Convolution, AnInputChangedBeforeBackwardIsAnError) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> t) {
    Communicator communicator(std::move(t));
    const at::Tensor x = at::ones({1, 4, 2}, at::kDouble);
    const auto plan = make_convolution_plan(
        {.layout = Layout::contiguous(4, 1), .width = 2}, 0);
    const at::Tensor out =
        causal_convolution(x, leaf(at::ones({2, 2}, at::kDouble)), {}, {}, plan,
                           communicator)
            .out;
    x.zero_();
    EXPECT_THROW(out.sum().backward(), c10::Error);
  });
}

TEST(Convolution, RanksWithDifferentKernelsGetOneError) {
  using std::chrono::seconds;
  const comm::LocalWorld data(2);
  comm::run_ranks(2, [&](Rank rank, std::shared_ptr<comm::Transport> control) {
    Communicator communicator(data.transport(rank));
    communicator.set_agreement(
        std::make_unique<comm::Agreement>(std::move(control), seconds(20)));
    const std::int64_t width = 3 + rank;
    const auto plan = make_convolution_plan(
        {.layout = Layout::contiguous(8, 2), .width = width}, rank);
    const at::Tensor x = at::ones({1, 4, 2}, at::kDouble);
    const at::Tensor weight = at::ones({2, width}, at::kDouble);
    EXPECT_THAT(
        [&] { causal_convolution(x, weight, {}, {}, plan, communicator); },
        testing::ThrowsMessage<comm::Disagreement>(
            testing::HasSubstr("got width \"4\" on rank 1; want \"3\"")));
  });
}

/// A rank that dies in the exchange: the others get a CommError, no hang.
TEST(Convolution, DeadPeerIsAnError) {
  const Problem p = make_problem(12, 4, Mask::causal(), true);
  const auto outcomes =
      comm::rank_outcomes(3,
                          [&](Rank, std::shared_ptr<comm::Transport> t) {
                            Communicator communicator(std::move(t));
                            on_rank(p, Layout::contiguous(12, 3), communicator);
                          },
                          {.kill = comm::FaultInjection::At{1, 0}});
  for (const Rank r : {0, 2}) {
    ASSERT_NE(outcomes[r], nullptr);
    EXPECT_THROW(std::rethrow_exception(outcomes[r]), CommError);
  }
}

}  // namespace
}  // namespace ringweave::convolution
