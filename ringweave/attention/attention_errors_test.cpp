#include <cmath>
#include <string>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::attention {
namespace {

using schedule::Layout;
using schedule::Mask;
using ::testing::HasSubstr;

std::string error_of(const auto& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Attention, WrongInputsAreErrorsBeforeAnythingIsSent) {
  const Layout layout = Layout::contiguous(6, 1);
  comm::run_ranks(1, [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
    comm::Communicator communicator(std::move(wire));
    const auto plan =
        make_attention_plan({{}, layout, layout, Mask::causal()}, rank);
    const auto x = [](std::initializer_list<std::int64_t> sizes) {
      return at::zeros(sizes, at::kDouble);
    };
    const auto error = [&](const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v) {
      return error_of([&] { attention(q, k, v, plan, communicator); });
    };
    const at::Tensor good = x({1, 6, 4, 3});
    EXPECT_THAT(error(x({6, 4, 3}), good, good), HasSubstr("(6, 4, 3)"));
    EXPECT_THAT(error(good, x({1, 5, 4, 3}), good), HasSubstr("5 tokens"));
    EXPECT_THAT(error(good, x({1, 6, 3, 3}), x({1, 6, 3, 3})),
                HasSubstr("4 heads with 3 kv heads"));
    EXPECT_THAT(error(good, good, x({1, 6, 4, 2})), HasSubstr("head_dim 3"));
    EXPECT_THAT(error(good, good.to(at::kFloat), good), HasSubstr("Float"));
    EXPECT_THAT(error(x({0, 6, 4, 3}), x({0, 6, 4, 3}), x({0, 6, 4, 3})),
                HasSubstr("a batch and a head_dim of at least 1"));
    EXPECT_THAT(error(x({1, 6, 4, 0}), x({1, 6, 4, 0}), x({1, 6, 4, 0})),
                HasSubstr("a batch and a head_dim of at least 1"));
    EXPECT_THAT(
        error_of([&] { attention(good, good, good, nullptr, communicator); }),
        HasSubstr("got no plan"));
    EXPECT_THAT(error(good.to(at::kInt), good.to(at::kInt), good.to(at::kInt)),
                HasSubstr("q of type Int"));
    for (const double scale : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
      EXPECT_THAT(error_of([&] {
                    attention(good, good, good, plan, communicator,
                              {.scale = scale});
                  }),
                  HasSubstr("want a finite number"));
    }
    const at::Tensor elsewhere = good.to(at::kMeta);
    EXPECT_THAT(error(elsewhere, elsewhere, elsewhere), HasSubstr("meta"));
    EXPECT_THAT(error(good, elsewhere, good), HasSubstr("k on meta"));
  });
  EXPECT_THAT(error_of([&] {
                make_attention_plan({{}, layout, layout, Mask::causal()}, 1);
              }),
              HasSubstr("got rank 1; want 0 … 0"));
}

TEST(Attention, SecondDerivativesAreAnError) {
  const Layout layout = Layout::contiguous(6, 1);
  comm::run_ranks(1, [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
    comm::Communicator communicator(std::move(wire));
    const auto plan =
        make_attention_plan({{}, layout, layout, Mask::causal()}, rank);
    const at::Tensor q =
        at::ones({1, 6, 4, 3}, at::kDouble).set_requires_grad(true);
    const auto out = attention(q, q, q, plan, communicator).out;
    EXPECT_THAT(error_of([&] {
                  torch::autograd::grad({out.sum()}, {q}, {}, true,
                                        /*create_graph=*/true);
                }),
                HasSubstr("second derivatives"));
  });
}

TEST(Attention, APeerThatDiesOrStallsIsAnErrorOnTheOthers) {
  const Layout layout = Layout::zigzag(32, 4);
  for (const bool stall : {false, true}) {
    // The operation counts fall into forward and into backward.
    for (const int operation : {3, 25}) {
      comm::FaultInjection faults;
      (stall ? faults.stall : faults.kill) = {2, operation};
      const auto outcomes = comm::rank_outcomes(
          4,
          [&](Rank rank, std::shared_ptr<comm::Transport> wire) {
            comm::Communicator communicator(
                std::move(wire), {.step = std::chrono::milliseconds(400)});
            const auto plan =
                make_attention_plan({{}, layout, layout, Mask::full()}, rank);
            const at::Tensor q =
                at::ones({1, 8, 2, 4}, at::kDouble).set_requires_grad(true);
            const auto out = attention(q, q, q, plan, communicator).out;
            torch::autograd::grad({out.sum()}, {q});
            communicator.barrier();
          },
          faults);
      for (Rank rank : {0, 1, 3}) {
        SCOPED_TRACE(
            fmt::format("rank {} stall {} at {}", rank, stall, operation));
        ASSERT_NE(outcomes[rank], nullptr);
        EXPECT_THROW(std::rethrow_exception(outcomes[rank]), CommError);
      }
    }
  }
}

}  // namespace
}  // namespace ringweave::attention
