#include "ringweave/cli/bench/device_table.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "ringweave/attention/kernel.h"
#include "ringweave/base/error.h"
#include "ringweave/cli/bench/spread.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/output_file.h"
#include "ringweave/planner/cost/device_table.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::cli {
namespace {

constexpr std::int64_t kSmallest = 64;

/// Median seconds of `repeat` runs, after one to warm up.
template <typename Work>
double median_seconds(int repeat, at::Device device, const Work& start) {
  std::vector<double> seconds;
  const auto work = [&] {
    start();
    wait_for_device(device);
  };
  work();
  for (int i = 0; i < repeat; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
            .count());
  }
  return spread(seconds).median;
}

void measure(const BenchOptions& options, std::int64_t kv_heads,
             std::int64_t rows, planner::DeviceTable& table) {
  const at::ScalarType type = scalar_type(options);
  const at::Device device = torch_device_of(options.device, 0);
  const schedule::Area area = {{0, rows}, {0, rows}};
  const at::ScalarType computed =
      attention::has_kernel({device, type, options.head_dim}, area)
          ? type
          : tensor::accumulate_type(type);
  const auto make = [&](std::int64_t heads, at::ScalarType of,
                        std::uint64_t seed) {
    return random_tensor({options.batch, rows, heads, options.head_dim}, of,
                         seed)
        .to(device);
  };
  const at::Tensor q = make(options.heads, type, 1);
  const at::Tensor k = make(kv_heads, type, 2);
  const at::Tensor v = make(kv_heads, type, 3);
  const at::Tensor grad = make(options.heads, computed, 4);
  const attention::Kernel& kernel =
      *attention::choose_kernel({device, computed, options.head_dim}, area)
           .kernel;
  // As a pass does it: queries are converted once, keys and values per tile.
  const at::Tensor queries = q.to(computed);
  const auto tile = [&]() -> attention::Tile {
    return {.q = queries,
            .k = k.to(computed),
            .v = v.to(computed),
            .scale = 1.0 / std::sqrt(static_cast<double>(options.head_dim))};
  };
  const auto pairs =
      static_cast<double>(rows * rows * options.heads * options.batch);
  table.forward.points.push_back(
      {pairs, median_seconds(options.repeat, device,
                             [&] { kernel.forward(tile()); })});
  if (options.forward_only) return;
  const attention::Partial result = kernel.forward(tile());
  table.backward.points.push_back(
      {pairs, median_seconds(options.repeat, device, [&] {
         kernel.backward(grad, tile(), result.out, result.lse);
       })});
}

}  // namespace

void save_device_table(const BenchOptions& options, std::int64_t kv_heads,
                       const std::string& path) {
  require(
      options.seq_len >= kSmallest,
      "[bench attention] got --seq-len {} with --save-device-table; want at "
      "least {}",
      options.seq_len, kSmallest);
  const at::NoGradGuard no_grad;
  at::set_num_threads(options.threads);
  planner::DeviceTable table{
      .name = options.device == kHostDevice
                  ? fmt::format("cpu, {} threads", options.threads)
                  : options.device,
      .source = "measured",
      .dtype = options.dtype};
  table.head_dim = static_cast<int>(options.head_dim);
  for (std::int64_t rows = kSmallest; rows <= options.seq_len; rows *= 2) {
    measure(options, kv_heads, rows, table);
    check_interrupted();
  }
  write_file(path, planner::to_json(table).dump(2) + "\n", "[bench attention]");
  for (const auto& [area, seconds] : table.forward.points) {
    fmt::print("area {:.4g}: forward {:.4g} ms\n", area, 1e3 * seconds);
  }
  fmt::print(stderr, "wrote {}\n", path);
}

}  // namespace ringweave::cli
