#include <cmath>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/linear_attention/problems.h"

namespace ringweave::linear_attention {
namespace {

/// Calls on one rank; every argument can be changed before.
struct Arguments {
  at::Tensor q = at::ones({1, 4, 2, 3}, at::kDouble);
  at::Tensor k = q.clone();
  at::Tensor v = at::ones({1, 4, 2, 5}, at::kDouble);
  Decay decay = Decay::none;
  at::Tensor gates, state;
  Mask mask = Mask::causal();
  int plan_ranks = 1;
  double scale = 1;

  void call() const {
    comm::run_ranks(1, [&](Rank, std::shared_ptr<comm::Transport> t) {
      Communicator communicator(std::move(t));
      linear_attention(
          q, k, v, decay, gates, state,
          make_linear_plan({schedule::state_exchange_from_name("chain"),
                            Layout::contiguous(4, plan_ranks), mask},
                           0),
          communicator, {.scale = scale});
    });
  }
};

void expect_error(const Arguments& arguments, const std::string& text) {
  try {
    arguments.call();
    ADD_FAILURE() << "no error; want one with: " << text;
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
  }
}

/// A kind of mask that a state can't follow.
class Checkered final : public schedule::MaskRule {
 public:
  bool sees(std::int64_t query, std::int64_t key) const override {
    return (query + key) % 2 == 0;
  }
  void add_areas(const schedule::Run&, const schedule::Run&,
                 std::vector<schedule::Area>&) const override {}
  bool is_causal() const override { return false; }
  Json to_json() const override { return {{"kind", "checkered"}}; }
  std::string text() const override { return "checkered"; }
};

TEST(LinearAttention, RejectsOtherKindsOfMasks) {
  Arguments a;
  a.mask = Mask(std::make_shared<Checkered>());
  expect_error(a, "got the mask checkered; want full, or causal");
}

TEST(LinearAttention, RejectsBadArguments) {
  EXPECT_NO_THROW(Arguments{}.call());
  Arguments a;
  a.k = at::ones({1, 4, 2, 4}, at::kDouble);
  expect_error(a, "got k of shape (1, 4, 2, 4); want (1, 4, 2, 3)");
  a = {};
  a.v = a.v.to(at::kFloat);
  expect_error(a, "got v of type Float; want Double");
  a = {};
  a.q = a.k = at::ones({1, 5, 2, 3}, at::kDouble);
  expect_error(a, "got q of shape (1, 5, 2, 3); want (1, 4, 2, 3)");
  a = {};
  a.q = a.q.to(at::kLong);
  expect_error(a, "want float64, float32, bfloat16 or float16");
  a = {};
  a.q = at::ones({4, 2, 3}, at::kDouble);
  expect_error(a, "q of 3 dimensions");
  a = {};
  a.q = a.q.to(at::kMeta);
  expect_error(a, "got q on meta; want cpu");
  a = {};
  a.v = at::Tensor();
  expect_error(a, "v of 0 dimensions");
  a = {};
  a.q = a.k = at::ones({1, 4, 2, 0}, at::kDouble);
  expect_error(a, "want at least 1 of each");
  a = {};
  a.q = at::ones({1, 4, 3, 3}, at::kDouble);
  expect_error(a, "got 3 query heads for 2 state heads");
  a = {};
  a.k = at::ones({1, 4, 0, 3}, at::kDouble);
  expect_error(a, "want at least 1 of each");
  a = {};
  a.plan_ranks = 2;
  expect_error(a, "got the plan of rank 0 of 2");
}

TEST(LinearAttention, RejectsBadGatesAndStates) {
  Arguments a;
  a.decay = Decay::per_head;
  expect_error(a, "got no gates; want shape (1, 4, 2)");
  a.gates = at::zeros({1, 4, 2}, at::kFloat);
  expect_error(a, "got gates of type Float; want Double");
  a.decay = Decay::none;
  expect_error(a, "got gates with decay none");
  a.decay = Decay::constant;
  a.gates = at::full({2}, 0.1, at::kDouble);
  expect_error(a, "log above 0");
  a.gates = at::full({2}, std::nan(""), at::kDouble);
  expect_error(a, "gates of decay constant with a log above 0 or NaN");
  a.gates = at::zeros({2}, at::kDouble);
  EXPECT_NO_THROW(a.call());
  a.mask = Mask::full();
  expect_error(a, "got a decay with a full mask");
  a = {};
  a.state = at::zeros({1, 2, 5, 3}, at::kDouble);
  expect_error(a, "got initial_state of shape (1, 2, 5, 3)");
  a.state = at::zeros({1, 2, 3, 5}, at::kFloat);
  expect_error(a, "got initial_state of type Float");
}

TEST(LinearAttention, RejectsGatesAbove0) {
  for (const Decay decay : {Decay::per_head, Decay::per_key}) {
    Arguments a;
    a.decay = decay;
    a.gates = decay == Decay::per_head ? at::zeros({1, 4, 2}, at::kDouble)
                                       : at::zeros({1, 4, 2, 3}, at::kDouble);
    EXPECT_NO_THROW(a.call());
    a.gates.select(1, 3).select(1, 1).fill_(1e-30);
    expect_error(a, "with a log above 0; want at most 0");
    a.gates.fill_(std::nan(""));
    EXPECT_NO_THROW(a.call());
  }
}

TEST(LinearAttention, RejectsAScaleThatIsNotFinite) {
  for (const double scale : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    Arguments a;
    a.scale = scale;
    expect_error(a, "want a finite number");
  }
}

TEST(LinearAttention, SecondDerivativesAreAnError) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> t) {
    Communicator communicator(std::move(t));
    const at::Tensor q = leaf(at::ones({1, 4, 2, 3}, at::kDouble));
    const auto plan = make_linear_plan(
        {schedule::state_exchange_from_name("chain"), Layout::contiguous(4, 1)},
        0);
    const at::Tensor out =
        linear_attention(q, q, q, Decay::none, {}, {}, plan, communicator).out;
    EXPECT_THROW(out.sum().backward({}, true, true), InvalidArgument);
  });
}

/// The first segment's backward reads the initial state.
TEST(LinearAttention, AStateChangedBeforeBackwardIsAnError) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> t) {
    Communicator communicator(std::move(t));
    const at::Tensor q = leaf(at::ones({1, 4, 2, 3}, at::kDouble));
    const at::Tensor state = at::ones({1, 2, 3, 3}, at::kDouble);
    const auto plan = make_linear_plan(
        {schedule::state_exchange_from_name("chain"), Layout::contiguous(4, 1)},
        0);
    const at::Tensor out =
        linear_attention(q, q, q, Decay::none, {}, state, plan, communicator)
            .out;
    state.zero_();
    EXPECT_THROW(out.sum().backward(), c10::Error);
  });
}

/// A rank that dies in the exchange: the others get a CommError, no hang.
TEST(LinearAttention, DeadPeerIsAnError) {
  const Problem p = make_problem(Decay::per_head, 30, Mask::causal(), false);
  for (const std::string& exchange : kExchanges) {
    const auto outcomes = comm::rank_outcomes(
        3,
        [&](Rank, std::shared_ptr<comm::Transport> t) {
          Communicator communicator(std::move(t));
          on_rank(p, Layout::contiguous(30, 3), exchange, communicator);
        },
        {.kill = comm::FaultInjection::At{1, 0}});
    for (const Rank r : {0, 2}) {
      ASSERT_NE(outcomes[r], nullptr) << exchange;
      EXPECT_THROW(std::rethrow_exception(outcomes[r]), CommError) << exchange;
    }
  }
}

}  // namespace
}  // namespace ringweave::linear_attention
