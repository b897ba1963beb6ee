// What the benchmarks share: options, timing side by side, and the report.
//
// A benchmark times one operation split over local ranks against the same on
// one device with as many threads in all. Both run in turn in one process, so
// that drift of the machine hits both; the results are compared as well, since
// a fast wrong answer is worth nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <CLI/CLI.hpp>

#include "ringweave/cli/bench_report.h"
#include "ringweave/cli/command.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/plan/layout.h"
#include "ringweave/plan/mask.h"
#include "ringweave/plan/plan_file.h"

namespace ringweave::cli {

struct BenchOptions {
  int ranks = 2;
  int threads = 1;  ///< per rank; the whole gets ranks · threads
  std::int64_t tokens = 8192;
  std::int64_t batch = 1;
  std::int64_t heads = 8;
  std::int64_t head_dim = 64;
  std::string dtype = "float32";
  std::string layout = "zigzag";
  std::string mask = "causal";
  bool forward_only = false;
  int repeat = 5;
  bool json = false;
};

void add_options(CLI::App& command, BenchOptions& options);
/// Throws InvalidArgument naming the first option that can't be used.
void check(const BenchOptions& options, const Context& context);

/// Throws InvalidArgument unless the plan, read from `path`, was made for the
/// options; what is said of other layers is not compared.
void check_fits(const plan::PlanFile& plan, const std::string& path,
                const BenchOptions& options, std::int64_t kv_heads);

at::ScalarType scalar_type(const BenchOptions& options);
plan::Layout layout_of(const BenchOptions& options);
plan::Mask mask_of(const BenchOptions& options);
/// Normally distributed numbers, the same for the same seed.
at::Tensor random_tensor(std::vector<std::int64_t> shape, at::ScalarType type,
                         std::uint64_t seed);
/// The rank's tokens (dimension 1) of a whole tensor, as a leaf that collects a
/// gradient if `gradient`.
at::Tensor shard(const at::Tensor& whole, const plan::Layout& layout, Rank rank,
                 bool gradient);

/// One way to split an operation.
struct BenchCase {
  /// Runs the operation and returns its results, tokens in dimension 1: those
  /// of one rank, or whole.
  using Operation = std::function<std::vector<at::Tensor>()>;

  std::string name;
  /// Makes what one rank times; called on the rank's own thread.
  std::function<Operation(comm::Communicator&)> split;
  /// Bytes that `from` sends to `to` in one run, as planned; may be empty.
  std::function<std::int64_t(Rank from, Rank to)> planned_bytes;
  /// Bytes of a rank's buffers at their peak, as planned; may be empty.
  std::function<std::int64_t(Rank rank)> planned_buffers = {};
};

/// `whole` runs on one thread of the caller's, with ranks · threads of torch.
BenchReport run_case(const BenchOptions& options, const BenchCase& bench_case,
                     const BenchCase::Operation& whole);

/// Prints tables to stdout, or one JSON object; `baseline` says what the whole
/// is.
void print_reports(const std::string& bench, const BenchOptions& options,
                   const std::string& baseline,
                   const std::vector<BenchReport>& reports);

void add_bench_attention(CLI::App& bench, Context& context);
void add_bench_linear(CLI::App& bench, Context& context);

}  // namespace ringweave::cli
