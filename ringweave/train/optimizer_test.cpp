#include "ringweave/train/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ringweave/comm/bucket_sum.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/train/flat.h"

namespace ringweave::train {
namespace {

using models::ParameterMaker;

TEST(LearningRate, WarmsUpThenFallsAlongACosine) {
  const OptimizerConfig config{
      .learning_rate = 2.0, .min_lr_ratio = 0.1, .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(learning_rate(config, 1, 12), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(config, 3, 12), 1.5);
  EXPECT_DOUBLE_EQ(learning_rate(config, 4, 12), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 6, 12),
                   2.0 * (0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2));
  EXPECT_DOUBLE_EQ(learning_rate(config, 8, 12), 2.0 * 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(config, 12, 12), 0.2);
}

TEST(LearningRate, OddEndsStayInRange) {
  const OptimizerConfig none{.learning_rate = 1.0, .warmup_steps = 0};
  EXPECT_DOUBLE_EQ(learning_rate(none, 1, 1), 0.1);
  // Warm-up longer than the run: it only rises.
  const OptimizerConfig longer{.learning_rate = 1.0, .warmup_steps = 10};
  EXPECT_DOUBLE_EQ(learning_rate(longer, 5, 5), 0.5);
  const OptimizerConfig equal{.learning_rate = 1.0, .warmup_steps = 5};
  EXPECT_DOUBLE_EQ(learning_rate(equal, 5, 5), 1.0);
}

struct Toy {
  ParameterMaker maker{1, ElementType::float64};
  at::Tensor matrix = maker.normal("matrix", {2, 3}, 1.0);
  at::Tensor vector = maker.filled("vector", {4}, 2.0);
};

TEST(Gradients, BackwardAccumulatesIntoTheFlatBuffer) {
  const Toy toy;
  Gradients gradients(toy.maker.parameters());
  for (int repeat = 0; repeat < 2; ++repeat) {
    ((3 * toy.matrix).sum() + toy.vector.pow(2).sum()).backward();
  }
  EXPECT_TRUE(toy.matrix.grad().equal(at::full({2, 3}, 6.0, at::kDouble)));
  EXPECT_TRUE(toy.vector.grad().equal(at::full({4}, 8.0, at::kDouble)));
  EXPECT_DOUBLE_EQ(gradients.norm(), std::sqrt(6 * 36.0 + 4 * 64.0));
  gradients.zero();
  EXPECT_EQ(toy.vector.grad().abs().sum().item<double>(), 0.0);
  (3 * toy.matrix).sum().backward();
  EXPECT_DOUBLE_EQ(gradients.norm(), std::sqrt(6 * 9.0));
}

TEST(Gradients, ClippingKeepsTheDirection) {
  const Toy toy;
  Gradients gradients(toy.maker.parameters());
  ((3 * toy.matrix).sum() + 4 * toy.vector.sum()).backward();
  const double norm = std::sqrt(6 * 9.0 + 4 * 16.0);
  const Range all = {0, 10};
  gradients.clip(norm, 0, all);         // never
  gradients.clip(norm, norm + 1, all);  // not reached
  EXPECT_DOUBLE_EQ(gradients.norm(), norm);
  gradients.clip(norm, 0.5, all);
  EXPECT_NEAR(gradients.norm(), 0.5, 1e-14);
  EXPECT_NEAR(toy.matrix.grad()[0][0].item<double>(), 3 * 0.5 / norm, 1e-14);
  EXPECT_NEAR(toy.vector.grad()[0].item<double>(), 4 * 0.5 / norm, 1e-14);
}

TEST(AdamW, FollowsTheFormulaAndDecaysMatricesOnly) {
  const Toy toy;
  const OptimizerConfig config{
      .beta1 = 0.8, .beta2 = 0.9, .eps = 1e-3, .weight_decay = 0.25};
  Gradients gradients(toy.maker.parameters());
  AdamW optimizer(toy.maker.parameters(), gradients, config, {0, 10});
  struct Plain {
    at::Tensor value, mean, square;
    double decay;
  };
  std::vector<Plain> plain;
  for (const auto& [tensor, decay] :
       {std::pair{toy.matrix, 0.25}, std::pair{toy.vector, 0.0}}) {
    plain.push_back({tensor.detach().clone(), at::zeros_like(tensor),
                     at::zeros_like(tensor), decay});
  }
  for (int step = 1; step <= 3; ++step) {
    gradients.zero();
    (toy.matrix.pow(2).sum() + (toy.vector * toy.vector.sum()).sum())
        .backward();
    const double rate = 0.1 * step;
    for (std::size_t i = 0; i < plain.size(); ++i) {
      Plain& p = plain[i];
      const at::Tensor gradient =
          (i == 0 ? toy.matrix : toy.vector).grad().clone();
      p.mean = 0.8 * p.mean + 0.2 * gradient;
      p.square = 0.9 * p.square + 0.1 * gradient * gradient;
      const at::Tensor mean = p.mean / (1 - std::pow(0.8, step));
      const at::Tensor square = p.square / (1 - std::pow(0.9, step));
      p.value =
          p.value * (1 - rate * p.decay) - rate * mean / (square.sqrt() + 1e-3);
    }
    optimizer.step(rate);
  }
  EXPECT_LE((toy.matrix - plain[0].value).abs().max().item<double>(), 1e-12);
  EXPECT_LE((toy.vector - plain[1].value).abs().max().item<double>(), 1e-12);
}

TEST(AdamW, PiecesOnRanksMakeTheWhole) {
  const OptimizerConfig config{.weight_decay = 0.25, .clip_norm = 1.5};
  const auto backward = [](const Toy& toy, int step, int rank) {
    ((step + rank) * toy.matrix.pow(2).sum() + toy.vector.prod()).backward();
  };
  // More ranks than numbers: some have none.
  for (const int ranks : {1, 2, 3, 12}) {
    const Toy whole;
    Gradients gradients(whole.maker.parameters());
    AdamW optimizer(whole.maker.parameters(), gradients, config, {0, 10});
    std::vector<double> norms;
    for (int step = 1; step <= 3; ++step) {
      gradients.zero();
      for (int rank = 0; rank < ranks; ++rank) backward(whole, step, rank);
      norms.push_back(gradients.norm());
      gradients.clip(norms.back(), config.clip_norm, {0, 10});
      optimizer.step(0.1);
    }
    comm::run_ranks(ranks, [&](Rank rank,
                               std::shared_ptr<comm::Transport> transport) {
      comm::Communicator communicator(std::move(transport));
      const Toy toy;
      const at::Tensor flat = flatten(toy.maker.parameters());
      Gradients mine(toy.maker.parameters());
      const Range piece = cut({0, 10}, rank, ranks);
      AdamW update(toy.maker.parameters(), mine, config, piece);
      EXPECT_EQ(update.means().numel(), piece.size());
      for (int step = 1; step <= 3; ++step) {
        mine.zero();
        backward(toy, step, rank);
        with_span(mine.flat(), [&](auto numbers) {
          comm::BucketSum sum(numbers, {{0, 10}},
                              comm::BucketSum::Result::pieces, communicator);
          sum.post(0);
          sum.finish();
        });
        const double norm = mine.norm(piece, communicator);
        EXPECT_NEAR(norm, norms[step - 1], 1e-12);
        mine.clip(norm, config.clip_norm, piece);
        update.step(0.1);
        all_gather_pieces(flat, communicator);
      }
      EXPECT_LE((toy.matrix - whole.matrix).abs().max().item<double>(), 1e-14);
      EXPECT_LE((toy.vector - whole.vector).abs().max().item<double>(), 1e-14);
    });
  }
}

}  // namespace
}  // namespace ringweave::train
