// A kind of mask and a kernel that no other file knows of.
#include <atomic>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ringweave/attention/cpu_flash_kernel.h"
#include "ringweave/attention/kernel.h"
#include "ringweave/attention/split_check.h"
#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::attention {
namespace {

using schedule::Area;
using schedule::Layout;
using schedule::Mask;
using schedule::Run;

/// Causal, but for the first tokens, which every query sees: a prefix LM.
class PrefixMask final : public schedule::MaskRule {
 public:
  explicit PrefixMask(std::int64_t prefix) : prefix_(prefix) {}

  bool sees(std::int64_t query, std::int64_t key) const override {
    return key < prefix_ || key <= query;
  }
  void add_areas(const Run& queries, const Run& keys,
                 std::vector<Area>& areas) const override {
    const Range early = keys.indices_in({0, prefix_});
    const std::int64_t first = early.size();
    if (queries.length > 0 && first > 0) {
      areas.push_back({{0, queries.length}, {0, first}});
    }
    const Run later = {keys.at(first), keys.length - first, keys.stride};
    const std::size_t before = areas.size();
    schedule::add_band_areas(queries, later, schedule::kUnlimited, 0, areas);
    for (std::size_t i = before; i < areas.size(); ++i) {
      areas[i].keys = moved(areas[i].keys, first);
    }
  }
  bool is_causal() const override { return false; }
  Json to_json() const override {
    return {{"kind", "prefix"}, {"prefix", prefix_}};
  }
  std::string text() const override {
    return fmt::format("prefix of {}", prefix_);
  }

 private:
  std::int64_t prefix_;
};

/// The formula, for every band; libtorch's op takes none.
class PlainKernel final : public Kernel {
 public:
  std::string name() const override { return "plain"; }
  Support supports(const TileKind& tile, const Area& area) const override {
    if (!enabled || !tile.device.is_cpu() || tile.type != at::kDouble ||
        (area.kind == Area::Kind::band && !takes_bands)) {
      return Support::none;
    }
    return Support::direct;
  }
  Partial forward(const Tile& tile) const override {
    ensure(!tile.bias.defined(), "a bias for a kernel that takes none");
    ++calls;
    const at::Tensor scores = scores_of(tile);
    const at::Tensor lse = scores.logsumexp(-1);
    const at::Tensor weights =
        (scores - lse.unsqueeze(-1)).exp().nan_to_num(0.0);
    return {weights.matmul(heads_first(tile.v, tile)).transpose(1, 2), lse};
  }
  TileGradients backward(const at::Tensor& grad_out, const Tile& tile,
                         const at::Tensor& out,
                         const at::Tensor& lse) const override {
    ++calls;
    const at::Tensor weights =
        (scores_of(tile) - lse.unsqueeze(-1)).exp().nan_to_num(0.0);
    const at::Tensor g = grad_out.transpose(1, 2);
    const at::Tensor delta = (g * out.transpose(1, 2)).sum(-1, true);
    const at::Tensor grad_scores =
        weights *
        (g.matmul(heads_first(tile.v, tile).transpose(2, 3)) - delta) *
        tile.scale;
    const auto by_kv_head = [&](const at::Tensor& x) {
      return x.unflatten(1, {tile.k.size(2), -1}).sum(2).transpose(1, 2);
    };
    return {
        grad_scores.matmul(heads_first(tile.k, tile)).transpose(1, 2),
        by_kv_head(grad_scores.transpose(2, 3).matmul(tile.q.transpose(1, 2))),
        by_kv_head(weights.transpose(2, 3).matmul(g))};
  }

  std::atomic<bool> enabled = false;
  std::atomic<bool> takes_bands = true;
  mutable std::atomic<int> calls = 0;

 private:
  static at::Tensor heads_first(const at::Tensor& x, const Tile& tile) {
    return x.repeat_interleave(tile.q.size(2) / x.size(2), 2).transpose(1, 2);
  }
  static at::Tensor scores_of(const Tile& tile) {
    const Area area = {
        {0, tile.q.size(1)}, {0, tile.k.size(1)}, tile.kind, tile.band};
    at::Tensor hidden =
        at::ones({area.rows.size(), area.keys.size()}, at::kBool);
    for (std::int64_t i = 0; i < area.rows.size(); ++i) {
      const Range seen = area.seen(i);
      if (!seen.empty()) hidden[i].slice(0, seen.begin, seen.end).fill_(false);
    }
    const at::Tensor scores = tile.q.transpose(1, 2).matmul(
                                  heads_first(tile.k, tile).transpose(2, 3)) *
                              tile.scale;
    return scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  }
};

/// Computes in bf16 tiles, and within them in fp32.
class HalfKernel final : public Kernel {
 public:
  std::string name() const override { return "half"; }
  Support supports(const TileKind& tile, const Area& area) const override {
    return enabled && tile.device.is_cpu() && tile.type == at::kBFloat16 &&
                   area.kind != Area::Kind::band
               ? Support::direct
               : Support::none;
  }
  Partial forward(const Tile& tile) const override {
    ++calls;
    const Partial wide = flash_.forward(widened(tile));
    return {wide.out.to(at::kBFloat16), wide.lse};
  }
  TileGradients backward(const at::Tensor& grad_out, const Tile& tile,
                         const at::Tensor& out,
                         const at::Tensor& lse) const override {
    ++calls;
    const TileGradients wide = flash_.backward(
        grad_out.to(at::kFloat), widened(tile), out.to(at::kFloat), lse);
    return {wide.q.to(at::kBFloat16), wide.k.to(at::kBFloat16),
            wide.v.to(at::kBFloat16)};
  }

  std::atomic<bool> enabled = false;
  mutable std::atomic<int> calls = 0;

 private:
  static Tile widened(const Tile& tile) {
    EXPECT_EQ(tile.q.scalar_type(), at::kBFloat16);
    EXPECT_EQ(tile.k.scalar_type(), at::kBFloat16);
    Tile wide = tile;
    wide.q = tile.q.to(at::kFloat);
    wide.k = tile.k.to(at::kFloat);
    wide.v = tile.v.to(at::kFloat);
    return wide;
  }

  CpuFlashKernel flash_;
};

/// Puts the kernel into the table, and uses it for as long as it lives.
class Registered {
 public:
  explicit Registered(bool takes_bands = true) {
    kernel().takes_bands = takes_bands;
    kernel().enabled = true;
  }
  ~Registered() { kernel().enabled = false; }
  static PlainKernel& kernel() {
    static const auto kernel = [] {
      auto made = std::make_shared<PlainKernel>();
      add_kernel(made);
      return made;
    }();
    return *kernel;
  }
};

TEST(Extension, AMaskOfANewKindIsReadAndExact) {
  schedule::add_mask_kind("prefix", [](JsonObject& object) {
    return std::make_shared<PrefixMask>(object.integer("prefix", 0));
  });
  const Mask mask =
      Mask::from_json({{"kind", "prefix"}, {"prefix", 11}}, "mask");
  EXPECT_EQ(mask.text(), "prefix of 11");
  for (const int ranks : {1, 2, 3, 4, 5, 7, 8}) {
    for (const schedule::Strategy& strategy :
         schedule::test_strategies(ranks)) {
      for (const Layout& layout : test::layouts(ranks)) {
        SCOPED_TRACE(fmt::format("{} {}", schedule::name(strategy),
                                 layout.to_json().dump()));
        test::expect_exact({.spec = {strategy, layout, layout, mask}});
        if (HasFailure()) return;
      }
    }
  }
}

TEST(Extension, AKernelOfTheTableIsUsedForItsAreas) {
  const Registered registered;
  for (const int ranks : {1, 2, 3, 4, 5, 7, 8}) {
    for (const Layout& layout : test::layouts(ranks)) {
      for (const Mask& mask : {Mask::full(), Mask::causal(),
                               Mask::causal().with_window({5, {}})}) {
        const schedule::Strategy strategy =
            schedule::strategy_from_name("multi_ring");
        SCOPED_TRACE(fmt::format("{} {} {}", ranks, layout.to_json().dump(),
                                 mask.to_json().dump()));
        registered.kernel().calls = 0;
        test::expect_exact({.spec = {strategy, layout, layout, mask}});
        EXPECT_EQ(registered.kernel().calls > 0, layout.tokens() > 0);
        if (HasFailure()) return;
      }
    }
  }
}

// What has a kernel in the inputs' own type is not converted to another one.
TEST(Extension, AKernelOfTheInputsTypeIsPreferred) {
  const auto kernel = std::make_shared<HalfKernel>();
  add_kernel(kernel);
  kernel->enabled = true;
  const Layout layout = Layout::zigzag(61, 5);
  for (const Mask& mask :
       {Mask::causal(), Mask::full(), Mask::causal().with_window({7, {}})}) {
    kernel->calls = 0;
    test::Scenario scenario = {
        .spec = {schedule::strategy_from_name("multi_ring"), layout, layout,
                 mask}};
    scenario.type = at::kBFloat16;
    scenario.tolerance = 3e-2;
    test::expect_exact(scenario);
    // It takes no band, and one type serves all calls of a pass.
    EXPECT_EQ(kernel->calls > 0, mask.is_plain());
  }
  kernel->enabled = false;
}

TEST(Extension, KernelsShareAMaskByTheirAreas) {
  const Registered registered(/*takes_bands=*/false);
  const Layout layout = Layout::zigzag(801, 2);
  registered.kernel().calls = 0;
  test::expect_exact({.spec = {schedule::strategy_from_name("ring"), layout,
                               layout, Mask::causal().with_window({60, {}})}});
  EXPECT_GT(registered.kernel().calls, 0);
}

}  // namespace
}  // namespace ringweave::attention
