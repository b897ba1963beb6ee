// Schedule files with one thing wrong: each is refused, or it is a valid
// schedule, too, and then gives the results of the one it was made from.
#include <random>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::attention {
namespace {

using schedule::Layout;
using schedule::Mask;

constexpr int kRanks = 3;
constexpr int kMutations = 150;  // per strategy and mask

class Mutator {
 public:
  explicit Mutator(std::uint32_t seed) : random_(seed) {}

  /// Changes one thing in one of the passes' schedules.
  void mutate(Json& forward, Json& backward) {
    Json& schedule = below(2) == 0 ? forward : backward;
    const char* lists[] = {"blocks", "transfers", "tiles", "retained"};
    Json& list = schedule[lists[below(4)]];
    const std::size_t what = below(12);
    if (what == 0 || list.empty()) {
      schedule[below(2) == 0 ? "steps" : "ranks"] = number();
    } else if (what == 1) {
      list.erase(below(list.size()));
    } else if (what == 2) {
      list.push_back(list[below(list.size())]);
    } else {
      change(list[below(list.size())]);
    }
  }

 private:
  std::size_t below(std::size_t end) { return random_() % end; }

  Json number() {
    constexpr std::int64_t kNumbers[] = {-2, -1,   0,    1,      2,      3,
                                         4,  4095, 4096, 100000, 1 << 30};
    const std::size_t i = below(std::size(kNumbers) + 2);
    if (i < std::size(kNumbers)) return kNumbers[i];
    return i == std::size(kNumbers) ? Json(std::int64_t{2147483647})
                                    : Json(std::int64_t{1} << 62);
  }

  void change(Json& entry) {
    auto field = entry.begin();
    std::advance(field, below(entry.size()));
    if (field.key() == "payload") {
      *field = below(2) == 0 ? "kv_grad" : "summary";
    } else if (field.key() == "action") {
      *field = below(2) == 0 ? "add" : "compose";
    } else if (field->is_array()) {
      (*field)[below(field->size())] = number();
    } else {
      *field = number();
    }
  }

  std::mt19937 random_;
};

class Mutations : public ::testing::Test {
 protected:
  /// Outputs and gradients of all ranks; nothing if the schedules are refused.
  std::vector<at::Tensor> run(const AttentionSpec& spec, const Json& forward,
                              const Json& backward) const {
    std::vector<std::shared_ptr<const AttentionPlan>> plans;
    try {
      const auto first = schedule::schedule_from_json(forward, "forward");
      const auto second = schedule::schedule_from_json(backward, "backward");
      for (Rank rank = 0; rank < kRanks; ++rank) {
        plans.push_back(make_attention_plan(spec, first, second, rank));
      }
    } catch (const InvalidArgument&) {
      return {};
    }
    std::vector<at::Tensor> results(2 * kRanks);
    comm::run_ranks(kRanks, [&](Rank rank,
                                std::shared_ptr<comm::Transport> wire) {
      comm::Communicator communicator(std::move(wire),
                                      {.step = std::chrono::seconds(20)});
      const at::Tensor index =
          at::tensor(spec.q_layout.positions(rank), at::kLong);
      const at::Tensor x =
          whole_.index_select(1, index).set_requires_grad(true);
      const at::Tensor out = attention(x, x, x, plans[rank], communicator).out;
      results[2 * rank] = out.detach();
      results[2 * rank + 1] =
          torch::autograd::grad({out.square().sum()}, {x})[0];
    });
    return results;
  }

  const at::Tensor whole_ = at::randn({1, 22, 2, 3}, at::kDouble);
};

TEST_F(Mutations, AreRefusedOrExact) {
  int refused = 0;
  int accepted = 0;
  std::uint32_t seed = 0;
  const Layout layout = Layout::zigzag(22, kRanks);
  for (const char* name : {"ring", "multi_ring", "direct:2", "all_gather"}) {
    for (const Mask& mask : {Mask::causal(), Mask::full()}) {
      const AttentionSpec spec = {schedule::strategy_from_name(name), layout,
                                  layout, mask};
      const schedule::AttentionDemand demand(layout, layout, mask);
      const auto schedule = [&](schedule::Pass pass) {
        return schedule::to_json(schedule::whole(spec.strategy, demand, pass));
      };
      const Json forward = schedule(schedule::Pass::forward);
      const Json backward = schedule(schedule::Pass::backward);
      const std::vector<at::Tensor> want = run(spec, forward, backward);
      ASSERT_FALSE(want.empty());
      for (int i = 0; i < kMutations; ++i) {
        Json first = forward;
        Json second = backward;
        Mutator(++seed).mutate(first, second);
        const std::vector<at::Tensor> got = run(spec, first, second);
        if (got.empty()) {
          ++refused;
          continue;
        }
        ++accepted;
        for (std::size_t k = 0; k < want.size(); ++k) {
          ASSERT_TRUE(at::allclose(got[k], want[k], 1e-12, 1e-12))
              << name << ", seed " << seed << "\n"
              << Json::diff(Json{forward, backward}, Json{first, second});
        }
      }
    }
  }
  EXPECT_GT(refused, accepted);
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace ringweave::attention
