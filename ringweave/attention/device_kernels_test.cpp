// The kernels of accelerators against the formula: on RINGWEAVE_TEST_DEVICE, or
// the simulated device, whose attention operations have the shapes and quirks
// of CUDA's.
#include <limits>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ringweave/attention/composed_kernel.h"
#include "ringweave/attention/efficient_kernel.h"
#include "ringweave/attention/flash_kernel.h"
#include "ringweave/attention/merge.h"
#include "ringweave/attention/split_check.h"
#include "ringweave/device/simulated/simulated.h"
#include "ringweave/device/simulated/test_device.h"

namespace ringweave::attention {
namespace {

using schedule::Area;
using schedule::Band;
using test::Case;
using test::expect_close;

struct KernelCase {
  std::int64_t heads = 4, kv_heads = 2, head_dim = 16;
  std::int64_t rows = 37, keys = 37;
  Area::Kind kind = Area::Kind::full;
  Band band = {};
};

std::string text(const KernelCase& it) {
  return fmt::format("{} heads of {} over {}, {} rows, {} keys, kind {}",
                     it.heads, it.head_dim, it.kv_heads, it.rows, it.keys,
                     static_cast<int>(it.kind));
}

/// (rows, keys), true where a row sees a key.
at::Tensor visible(const KernelCase& it) {
  const at::Tensor distance =
      at::arange(it.keys) * it.band.key_stride -
      at::arange(it.rows).unsqueeze(1) * it.band.row_stride;
  switch (it.kind) {
    case Area::Kind::full:
      return at::ones({it.rows, it.keys}, at::kBool);
    case Area::Kind::causal:
      return at::ones({it.rows, it.keys}, at::kBool).tril_();
    case Area::Kind::band:
      return (distance >= it.band.low).logical_and_(distance <= it.band.high);
  }
  return {};
}

constexpr double kScale = 0.3;

at::Device kernel_device() {
  return device::test_device_type() == at::kCPU ? device::simulated::device(0)
                                                : device::test_device(0);
}

at::Tensor on_device(const at::Tensor& x, at::ScalarType type) {
  return x.detach().to(type).to(kernel_device());
}

Tile tile_of(const KernelCase& it, const Case& wanted, Support support,
             at::ScalarType type) {
  Tile tile = {.q = on_device(wanted.q, type),
               .k = on_device(wanted.k, type),
               .v = on_device(wanted.v, type),
               .scale = kScale,
               .kind = it.kind,
               .band = it.band};
  if (support == Support::with_bias) {
    tile.kind = Area::Kind::full;
    const at::Tensor sees = visible(it);
    tile.bias = on_device(
        at::zeros(sees.sizes(), at::kDouble)
            .masked_fill_(~sees, -std::numeric_limits<double>::infinity()),
        type);
  }
  return tile;
}

/// The kernel's output, lse and gradients.
void expect_formula(const Kernel& kernel, const KernelCase& it,
                    at::ScalarType type, double tolerance) {
  SCOPED_TRACE(kernel.name() + ": " + text(it));
  const Area area = {{0, it.rows}, {0, it.keys}, it.kind, it.band};
  const Support support =
      kernel.supports({kernel_device(), type, it.head_dim}, area);
  ASSERT_NE(support, Support::none);
  const Case wanted = test::formula(
      visible(it),
      {.heads = it.heads, .kv_heads = it.kv_heads, .head_dim = it.head_dim},
      kScale, /*seed=*/7, type);
  const Tile tile = tile_of(it, wanted, support, type);
  const Partial result = kernel.forward(tile);
  expect_close(result.out, wanted.out, tolerance, "out");
  expect_close(result.lse, wanted.lse, tolerance, "lse");
  const TileGradients got =
      kernel.backward(on_device(wanted.grad_out, type), tile,
                      result.out.contiguous(), result.lse.contiguous());
  expect_close(got.q, wanted.grad_q, tolerance, "grad q");
  expect_close(got.k, wanted.grad_k, tolerance, "grad k");
  expect_close(got.v, wanted.grad_v, tolerance, "grad v");
}

std::vector<KernelCase> cases() {
  std::vector<KernelCase> all;
  for (const std::int64_t head_dim : {3, 16, 64}) {
    for (const std::int64_t kv_heads : {1, 4}) {
      const KernelCase full = {.kv_heads = kv_heads, .head_dim = head_dim};
      KernelCase wide = full;
      wide.keys = 70;
      KernelCase tall = full;
      tall.rows = 65;
      KernelCase causal = full;
      causal.kind = Area::Kind::causal;
      all.insert(all.end(), {full, wide, tall, causal});
      for (const Band& band :
           {Band{.low = -5, .high = 0}, Band{.low = -3, .high = 4},
            Band{.row_stride = 2, .key_stride = 2, .low = -7, .high = 3}}) {
        KernelCase it = full;
        it.kind = Area::Kind::band;
        it.band = band;
        all.push_back(it);
      }
    }
  }
  return all;
}

TEST(DeviceKernels, ComposedEqualsTheFormula) {
  for (const KernelCase& it : cases()) {
    expect_formula(ComposedKernel(), it, at::kDouble, 1e-10);
    expect_formula(ComposedKernel(), it, at::kFloat, 5e-5);
  }
}

TEST(DeviceKernels, EfficientEqualsTheFormula) {
  for (const KernelCase& it : cases()) {
    expect_formula(EfficientKernel(), it, at::kFloat, 5e-5);
  }
}

TEST(DeviceKernels, FlashEqualsTheFormula) {
  for (const KernelCase& it : cases()) {
    expect_formula(FlashKernel(), it, at::kBFloat16, 0.05);
    expect_formula(FlashKernel(), it, at::kHalf, 0.01);
  }
}

TEST(DeviceKernels, OnlyWhatTheyCanDo) {
  const at::Device sim = device::simulated::device(0);
  const Area full = {{0, 8}, {0, 8}};
  const Area steep = {{0, 8},
                      {0, 8},
                      Area::Kind::band,
                      {.row_stride = 2, .key_stride = 1, .low = -3, .high = 3}};
  const auto supports = [](const Kernel& kernel, const TileKind& tile,
                           const Area& area) {
    return kernel.supports(tile, area);
  };
  EXPECT_EQ(supports(FlashKernel(), {sim, at::kFloat, 64}, full),
            Support::none);
  EXPECT_EQ(supports(FlashKernel(), {sim, at::kBFloat16, 512}, full),
            Support::none);
  EXPECT_EQ(supports(FlashKernel(), {sim, at::kBFloat16, 64}, steep),
            Support::none);
  EXPECT_EQ(supports(EfficientKernel(), {sim, at::kDouble, 64}, full),
            Support::none);
  EXPECT_EQ(supports(EfficientKernel(), {sim, at::kFloat, 64}, steep),
            Support::with_bias);
  for (const at::ScalarType type :
       {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    EXPECT_EQ(supports(ComposedKernel(), {at::kCPU, type, 64}, full),
              Support::none);
    EXPECT_EQ(supports(FlashKernel(), {at::kCPU, type, 64}, full),
              Support::none);
    EXPECT_EQ(supports(EfficientKernel(), {at::kCPU, type, 64}, full),
              Support::none);
  }
}

}  // namespace
}  // namespace ringweave::attention
