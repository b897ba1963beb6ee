// What the benchmarks share: options, timing side by side, and the report.
//
// A benchmark times one operation split over ranks against the same on one
// device with as many threads in all. Both run in turn, so that drift of the
// machine hits both; the results are compared as well, since
// a fast wrong answer is worth nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <CLI/CLI.hpp>

#include "ringweave/cli/bench/pair_report.h"
#include "ringweave/cli/bench/torch_device.h"
#include "ringweave/cli/command.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/comm/engine.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"

namespace ringweave::cli {

struct BenchOptions {
  int ranks = 2;
  int threads = 1;  ///< per rank; the whole gets ranks · threads
  std::int64_t seq_len = 8192;
  std::int64_t batch = 1;
  std::int64_t heads = 8;
  std::int64_t head_dim = 64;
  std::string dtype = "float32";
  std::string device = kHostDevice;  ///< of ranks that are threads
  std::string layout = "zigzag";
  std::string mask_argument = "causal";
  schedule::Mask mask =
      schedule::Mask::causal();  ///< read from it before prepare()
  bool forward_only = false;
  int repeat = 5;
  bool json = false;
};

/// Throws InvalidArgument unless the plan, read from `path`, was made for the
/// options; what is said of other layers is not compared.
void check_fits(const planner::PlanFile& plan, const std::string& path,
                const BenchOptions& options, std::int64_t kv_heads);

at::ScalarType scalar_type(const BenchOptions& options);
schedule::Layout layout_of(const BenchOptions& options);
/// Normally distributed numbers, the same for the same seed.
at::Tensor random_tensor(std::vector<std::int64_t> shape, at::ScalarType type,
                         std::uint64_t seed);
/// The rank's tokens (dimension 1) of a whole tensor.
at::Tensor shard(const at::Tensor& whole, const schedule::Layout& layout,
                 Rank rank);

/// One way to split an operation.
struct BenchCase {
  /// Runs the operation and returns its results, tokens in dimension 1: those
  /// of one rank, or whole. A device may yet have to compute them.
  using Operation = std::function<std::vector<at::Tensor>()>;

  /// What one rank times, and what its plan says of one run.
  struct Part {
    Operation operation;
    std::map<Rank, std::int64_t> planned_bytes;  ///< sent, by receiving rank
    /// Bytes of the rank's buffers at their peak; none: not measured.
    std::optional<std::int64_t> planned_buffers = {};
  };

  std::string name;
  /// Makes a rank's part; called on the rank's own thread.
  std::function<Part(comm::Communicator&)> split;
};

/// `whole` runs on the first device, or on one thread of rank 0's process, with
/// ranks · threads of torch. Only rank 0's report has times.
BenchReport run_case(const comm::Engine& engine, const BenchOptions& options,
                     const BenchCase& bench_case,
                     const BenchCase::Operation& whole);

/// What was asked for: the start of a JSON object, and of a table.
Json facts_of(const std::string& bench, const BenchOptions& options);
std::string title_of(const std::string& bench, const BenchOptions& options);

/// Prints tables to stdout, or one JSON object; `baseline` says what the whole
/// is, `own` has the fields of the benchmark's own options.
void print_reports(const std::string& bench, const BenchOptions& options,
                   const Json& own, const std::string& baseline,
                   const std::vector<BenchReport>& reports);

/// Throws InvalidArgument unless the whole's tensors fit in this machine's
/// memory.
void check_memory_of_tensors(const BenchOptions& options);

/// Checks a benchmark's own options, and returns what the files that they name
/// say, to be compared over ranks.
using Prepare = std::function<std::map<std::string, std::string>()>;

/// A subcommand with the options that all benchmarks have. When it was chosen
/// they are checked, then `prepare` checks its own; `run` is the job.
CLI::App* add_benchmark(CLI::App& bench, Context& context,
                        const std::string& name, const std::string& text,
                        BenchOptions& options, Prepare prepare,
                        std::function<void()> run);

void add_bench_attention(CLI::App& bench, Context& context);
void add_bench_linear(CLI::App& bench, Context& context);
void add_bench_model(CLI::App& bench, Context& context);

}  // namespace ringweave::cli
