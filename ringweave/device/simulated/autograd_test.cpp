// Backward passes: on which streams, in whose thread, and ordered with what.
#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::IsEmpty;
using testing::Not;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What a backward pass of Twice saw, and what it reads.
struct Seen {
  std::optional<c10::Stream> stream;
  std::thread::id thread;
  Tensor read;
};
Seen seen;

/// 2x, with a backward pass of its own.
struct Twice : torch::autograd::Function<Twice> {
  static Tensor forward(AutogradContext* context, const Tensor& x) {
    context->save_for_backward({x});
    return x * 2;
  }
  static variable_list backward(AutogradContext* context,
                                const variable_list& grads) {
    if (seen.read.defined()) {
      seen.stream = guards().getStream(grads[0].device());
      seen.thread = std::this_thread::get_id();
      seen.read.sum();
    }
    return {grads[0] * 2 + context->get_saved_variables()[0] * 0};
  }
};

Tensor parameter(const Tensor& values) {
  return values.detach().clone().requires_grad_();
}

TEST(Gradients, AreThoseOfTheCpu) {
  settle();
  at::manual_seed(1);
  const Tensor x = at::randn({6, 8});
  const Tensor w = at::randn({8, 5});
  const auto gradients = [&](c10::Device device) {
    const Tensor a = parameter(x.to(device));
    const Tensor b = parameter(w.to(device));
    Twice::apply(a).mm(b).softmax(1).pow(2).sum().backward();
    return std::vector<Tensor>{a.grad().cpu(), b.grad().cpu()};
  };
  const auto got = gradients(device(2));
  const auto want = gradients(c10::kCPU);
  EXPECT_TRUE(at::allclose(got[0], want[0]));
  EXPECT_TRUE(at::allclose(got[1], want[1]));
  EXPECT_THAT(take_reports(), IsEmpty());
}

class Backward : public TwoStreams {
 protected:
  Backward() {
    seen = {.stream = {}, .thread = {}, .read = at::zeros({4}, device(0))};
    settle();
  }
  ~Backward() override { seen = {}; }

  Tensor forward_on(c10::Stream stream) const {
    Tensor loss;
    on(stream, [&] { loss = Twice::apply(w).mm(w).sum(); });
    return loss;
  }

  const Tensor w = parameter(at::randn({8, 8}, device(0)));
};

TEST_F(Backward, RunsOnTheForwardsStreamInAThreadOfTheEngine) {
  forward_on(a).backward();
  EXPECT_EQ(seen.stream, a);
  EXPECT_NE(seen.thread, std::this_thread::get_id());
  w.grad().sum();
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Backward, IsNotOrderedWithAThirdStream) {
  forward_on(a).backward();
  on(b, [&] { w.grad().sum(); });
  EXPECT_THAT(take_reports(), Not(IsEmpty()));
}

TEST_F(Backward, OrdersBranchesOnTwoStreams) {
  Tensor left;
  Tensor right;
  on(a, [&] { left = Twice::apply(w); });
  on(b, [&] { right = Twice::apply(w).mm(w); });
  const c10::Stream own = guards().getDefaultStream(device(0));
  wait_for(own, a);
  wait_for(own, b);
  (left.sum() + right.sum()).backward();
  w.grad().sum();
  EXPECT_THAT(take_reports(), IsEmpty());
}

/// Nothing but the host's clock can tell stream a of the write on stream b.
class BackwardAfterWrite : public Backward {
 protected:
  void run(bool synchronizes) {
    Tensor loss;
    Tensor one;
    on(a, [&] {
      loss = Twice::apply(w).sum();
      one = at::ones({}, device(0));
    });
    on(b, [&] { seen.read.fill_(1); });
    if (synchronizes) b.synchronize();
    on(a, [&] { loss.backward(one); });
  }
};

TEST_F(BackwardAfterWrite, KnowsWhatItsCallerHasWaitedFor) {
  run(true);
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(BackwardAfterWrite, ReadsTooEarlyOtherwise) {
  run(false);
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
}

void train(int rank) {
  const c10::StreamGuard guard(stream_of(rank));
  const Tensor weights = parameter(at::randn({8, 8}, device(rank)));
  for (int step = 0; step < 10; ++step) {
    Twice::apply(weights).mm(weights).sum().backward();
    const at::NoGradGuard no_grad;
    weights.add_(weights.grad(), -1e-3);
    weights.mutable_grad().zero_();
  }
  EXPECT_TRUE(weights.isfinite().all().item<bool>());
}

TEST(Ranks, TrainInThreadsOfTheirOwn) {
  settle();
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank) ranks.emplace_back(train, rank);
  for (std::thread& rank : ranks) rank.join();
  EXPECT_THAT(take_reports(), IsEmpty());
}

}  // namespace
}  // namespace ringweave::device::simulated
