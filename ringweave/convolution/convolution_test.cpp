#include "ringweave/convolution/convolution.h"

#include <limits>
#include <map>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/convolution/problems.h"

namespace ringweave::convolution {
namespace {

/// Ranks are threads: torch's own would only get in their way.
class OneThreadPerRank : public testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
const testing::Environment* const kOneThreadPerRank =
    testing::AddGlobalTestEnvironment(new OneThreadPerRank);

/// Every number of ranks and every layout.
void sweep(const Problem& p) {
  const Everything want = by_loop(p);
  for (const int ranks : kRanks) {
    for (const Layout& layout : layouts(p.tokens(), ranks)) {
      check(p, want, layout);
    }
  }
}

TEST(Convolution, IsThePlainLoop) {
  sweep(make_problem(29, 4, Mask::causal(), false));
  sweep(make_problem(23, 3, Mask::causal(), true));
}

TEST(Convolution, EveryWidth) {
  for (const std::int64_t width : {1, 2, 5, 8}) {
    const Problem p = make_problem(19, width, Mask::causal(), true);
    const Everything want = by_loop(p);
    for (const int ranks : {1, 3, 8}) {
      for (const Layout& layout : layouts(19, ranks)) check(p, want, layout);
    }
  }
}

TEST(Convolution, NothingCrossesTheStartOfADocument) {
  for (const bool states : {false, true}) {
    sweep(make_problem(31, 4,
                       Mask::causal().with_documents({0, 3, 4, 5, 15, 29, 31}),
                       states));
  }
  sweep(make_problem(3, 4, Mask::causal().with_documents({0, 1, 2, 3}), true));
}

TEST(Convolution, FewerTokensThanRanks) {
  for (const std::int64_t tokens : {0, 1, 2, 5}) {
    const Problem p = make_problem(tokens, 4, Mask::causal(), true);
    const Everything want = by_loop(p);
    for (const int ranks : {1, 4, 7}) {
      check(p, want, Layout::contiguous(tokens, ranks));
      check(p, want, Layout::zigzag(tokens, ranks));
    }
  }
}

// More channels than are summed at a time, and more tokens than gradients are.
TEST(Convolution, SeveralBlocks) {
  const Problem p =
      make_problem(530, 4, Mask::causal(), true, at::kDouble, 300);
  Everything want = by_loop(p);
  check(p, want, Layout::zigzag(530, 2));
  at::set_num_threads(3);
  check(p, want, Layout::contiguous(530, 1));
  at::set_num_threads(1);
}

TEST(Convolution, LowerPrecisionIsRoundedOnce) {
  for (const auto& [type, tolerance] :
       {std::pair(at::kFloat, 1e-6), std::pair(at::kBFloat16, 4e-3),
        std::pair(at::kHalf, 5e-4)}) {
    const Problem p = make_problem(41, 4, Mask::causal(), true, type);
    const Everything want = by_loop(p);
    for (const int ranks : {1, 3, 5}) {
      for (const Layout& layout : layouts(41, ranks)) {
        const Everything got = by_ranks(p, layout);
        expect_close(got.out, want.out, tolerance, "out");
        expect_close(got.dx, want.dx, tolerance, "dx");
        // In the type of sums, whatever that of x.
        EXPECT_EQ(got.dweight.scalar_type(), at::kFloat);
        expect_close(got.dweight, want.dweight, 1e-6, "dweight");
        expect_close(got.dbias, want.dbias, 1e-6, "dbias");
      }
    }
  }
}

TEST(Convolution, OutputsHaveTheSameBitsHoweverTokensAreSplit) {
  for (const at::ScalarType type :
       {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const Problem p = make_problem(37, 4, Mask::causal(), true, type);
    const at::Tensor want = by_ranks(p, Layout::contiguous(37, 1)).out;
    for (const int ranks : {2, 5, 8}) {
      for (const Layout& layout : layouts(37, ranks)) {
        EXPECT_TRUE(by_ranks(p, layout).out.equal(want));
      }
    }
  }
}

TEST(Convolution, ADocumentKeepsNanToItself) {
  Problem p =
      make_problem(12, 4, Mask::causal().with_documents({0, 5, 12}), true);
  const Everything want = by_loop(p);
  p.x.narrow(1, 0, 5).fill_(std::numeric_limits<double>::quiet_NaN());
  for (const int ranks : {1, 3, 5}) {
    std::vector<Everything> parts(ranks);
    const Layout layout = Layout::zigzag(12, ranks);
    comm::run_ranks(ranks, [&](Rank rank, std::shared_ptr<comm::Transport> t) {
      Communicator communicator(std::move(t));
      const at::Tensor index = positions(layout, rank);
      const auto plan = make_convolution_plan(
          {.layout = layout, .width = 4, .mask = p.mask}, rank);
      const at::Tensor out =
          causal_convolution(p.x.index_select(1, index), p.weight, p.bias,
                             p.state, plan, communicator)
              .out;
      for (std::int64_t i = 0; i < index.size(0); ++i) {
        const auto position = index[i].item<std::int64_t>();
        if (position < 5) continue;
        EXPECT_TRUE(at::allclose(out.select(1, i), want.out.select(1, position),
                                 1e-12, 1e-12));
      }
    });
  }
}

TEST(Convolution, SendsWhatThePlanSays) {
  for (const bool states : {false, true}) {
    const Problem p =
        make_problem(31, 4, Mask::causal().with_documents({0, 9, 31}), states);
    for (const int ranks : kRanks) {
      for (const Layout& layout : layouts(31, ranks)) {
        comm::run_ranks(
            ranks, [&](Rank rank, std::shared_ptr<comm::Transport> t) {
              Communicator communicator(std::move(t));
              on_rank(p, layout, communicator);
              std::map<Rank, std::int64_t> sent;
              for (const auto& [to, link] : communicator.traffic().sent) {
                sent[to] = link.bytes;
                EXPECT_LE(link.messages, 2);  // one each way
              }
              const auto plan = make_convolution_plan(
                  {.layout = layout, .width = p.width, .mask = p.mask}, rank);
              EXPECT_EQ(sent, planned_bytes(*plan, p.x, states, true))
                  << layout.to_json().dump();
            });
      }
    }
  }
}

// Messages that arrive late and in another order.
TEST(Convolution, DelaysChangeNothing) {
  const Problem p = make_problem(29, 4, Mask::causal(), true);
  const Everything want = by_loop(p);
  for (const Layout& layout : layouts(29, 5)) {
    check(p, want, layout, 1e-10,
          {.seed = 3, .max_delay = std::chrono::microseconds(2000)});
  }
}

/// Gradients of one input at a time, as when the others are frozen.
TEST(Convolution, GradientsOfSomeInputsAreThoseOfAll) {
  const Problem p = make_problem(17, 4, Mask::causal(), true);
  const Everything want = by_loop(p);
  const at::Tensor inputs[] = {p.x, p.weight, p.bias, p.state};
  const at::Tensor gradients[] = {want.dx, want.dweight, want.dbias,
                                  want.dstate};
  for (int wanted = 0; wanted < 4; ++wanted) {
    comm::run_ranks(1, [&](Rank, std::shared_ptr<comm::Transport> t) {
      Communicator communicator(std::move(t));
      std::vector<at::Tensor> x(inputs, inputs + 4);
      x[wanted] = leaf(x[wanted]);
      const auto plan = make_convolution_plan(
          {.layout = Layout::contiguous(17, 1), .width = 4}, 0);
      const ConvolutionResult result = causal_convolution(
          x[0], x[1], x[2], x[3], plan, communicator, {.final_state = true});
      const at::Tensor loss =
          (result.out * p.dout).sum() + (result.final_state * p.dfinal).sum();
      if (!loss.requires_grad()) FAIL() << wanted;
      loss.backward();
      expect_close(x[wanted].grad(), gradients[wanted], 1e-10, "gradient");
    });
  }
}

TEST(Convolution, AnyOrderOfMemory) {
  const Problem p = make_problem(21, 4, Mask::causal(), true);
  const Everything want = by_loop(p);
  Problem other = p;
  other.x = p.x.transpose(1, 2).contiguous().transpose(1, 2);
  other.weight = p.weight.t().contiguous().t();
  other.dout = p.dout.transpose(0, 1).contiguous().transpose(0, 1);
  other.state = p.state.transpose(1, 2).contiguous().transpose(1, 2);
  check(other, want, Layout::zigzag(21, 3));
}

}  // namespace
}  // namespace ringweave::convolution
