#include "ringweave/cli/bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/mask_option.h"
#include "ringweave/comm/engine.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::cli {
namespace {

using Seconds = std::chrono::duration<double>;

/// After a team of OpenMP threads has worked, its idle members spin for some
/// milliseconds; the next measurement waits until they sleep.
constexpr std::chrono::milliseconds kCalm{20};

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return Seconds(std::chrono::steady_clock::now() - begin).count();
}

double error_of(const std::vector<at::Tensor>& split,
                const std::vector<at::Tensor>& whole,
                const schedule::Layout& layout, Rank rank) {
  ensure(split.size() == whole.size(), "{} results of a split, {} of the whole",
         split.size(), whole.size());
  double worst = 0;
  for (std::size_t i = 0; i < split.size(); ++i) {
    if (split[i].numel() == 0) continue;
    const at::Tensor want =
        shard(whole[i], layout, rank, false).to(at::kDouble);
    const at::Tensor got = split[i].detach().to(at::kDouble);
    const double scale =
        std::max(1.0, whole[i].detach().abs().max().item<double>());
    worst = std::max(worst, (got - want).abs().max().item<double>() / scale);
  }
  return worst;
}

/// What the ranks' threads share. Written between barriers, by rank 0 or by one
/// rank at a time.
struct Shared {
  std::mutex mutex;
  std::vector<at::Tensor> whole;
  BenchReport report;
};

std::map<Rank, std::int64_t> bytes_sent(comm::Communicator& communicator) {
  std::map<Rank, std::int64_t> bytes;
  for (const auto& [to, sent] : communicator.traffic().sent) {
    bytes[to] = sent.bytes;
  }
  return bytes;
}

/// Runs both once: warms up, counts bytes, compares results.
void rehearse(const BenchOptions& options, const BenchCase::Part& split,
              const BenchCase::Operation& whole,
              comm::Communicator& communicator, Shared& shared) {
  const Rank rank = communicator.rank();
  const auto before = bytes_sent(communicator);
  const std::vector<at::Tensor> results = split.operation();
  const auto after = bytes_sent(communicator);
  if (rank == 0) shared.whole = whole();
  communicator.barrier();
  const double error =
      error_of(results, shared.whole, layout_of(options), rank);

  const std::lock_guard lock(shared.mutex);
  shared.report.max_error = std::max(shared.report.max_error, error);
  for (Rank to = 0; to < options.ranks; ++to) {
    if (to == rank) continue;
    const auto bytes = [&](const std::map<Rank, std::int64_t>& links) {
      const auto found = links.find(to);
      return found == links.end() ? 0 : found->second;
    };
    shared.report.links.push_back(
        {.from = rank,
         .to = to,
         .sent_bytes = bytes(after) - bytes(before),
         .planned_bytes = bytes(split.planned_bytes)});
  }
  if (split.planned_buffers) {
    shared.report.buffers.push_back(
        {.rank = rank,
         .peak_bytes = communicator.traffic().peak_buffer_bytes,
         .planned_bytes = *split.planned_buffers});
  }
}

void run_rank(const BenchOptions& options, const BenchCase& bench_case,
              const BenchCase::Operation& whole,
              comm::Communicator& communicator, Shared& shared) {
  const bool first = communicator.rank() == 0;
  const BenchCase::Part split = bench_case.split(communicator);
  ensure(at::get_num_threads() == options.threads,
         "a rank has {} threads instead of {}", at::get_num_threads(),
         options.threads);
  rehearse(options, split, whole, communicator, shared);
  for (int i = 0; i < options.repeat; ++i) {
    BenchReport::Pair pair;
    if (first) std::this_thread::sleep_for(kCalm);
    communicator.barrier();
    pair.split_seconds = seconds_of([&] {
      split.operation();
      communicator.barrier();
    });
    if (first) {
      check_interrupted();
      // The other ranks sleep in the barrier meanwhile.
      at::set_num_threads(options.ranks * options.threads);
      pair.whole_seconds = seconds_of([&] { whole(); });
      at::set_num_threads(options.threads);
      shared.report.pairs.push_back(pair);
    }
    communicator.barrier();
  }
}

void add_options(CLI::App& command, BenchOptions& options) {
  const auto number = [&](const std::string& flag, auto& value,
                          const std::string& text) {
    command.add_option(flag, value, text)
        ->type_name("N")
        ->capture_default_str();
  };
  number("--ranks", options.ranks, "Ranks, as threads of this process");
  number("--threads", options.threads,
         "Threads per rank; one device gets ranks x threads");
  number("--seq-len", options.seq_len, "Tokens of each whole sequence");
  number("--batch", options.batch, "Sequences");
  number("--heads", options.heads, "Heads");
  number("--head-dim", options.head_dim, "Numbers per head and token");
  number("--repeat", options.repeat, "Pairs of measurements");
  command.add_option("--dtype", options.dtype, "float64, float32 or bfloat16")
      ->check(one_of(element_type_names()))
      ->capture_default_str();
  command
      .add_option("--layout", options.layout, "contiguous, zigzag or striped")
      ->check(one_of(schedule::Layout::names()))
      ->capture_default_str();
  command.add_option("--mask", options.mask_argument, kMaskHelp)
      ->type_name("MASK")
      ->capture_default_str();
  command.add_flag("--forward-only", options.forward_only,
                   "Leave out the backward pass");
  command.add_flag("--json", options.json, "Print one JSON object");
}

/// Throws InvalidArgument naming the first option that can't be used.
void check(const BenchOptions& options, const Context& context) {
  require(!context.engine.is_group(),
          "[bench] runs its ranks as threads of one process: start it without "
          "a launcher");
  const auto positive = [](const char* flag, std::int64_t value) {
    require(value >= 1, "[bench] got {} {}; want at least 1", flag, value);
  };
  positive("--ranks", options.ranks);
  positive("--threads", options.threads);
  positive("--seq-len", options.seq_len);
  positive("--batch", options.batch);
  positive("--heads", options.heads);
  positive("--head-dim", options.head_dim);
  positive("--repeat", options.repeat);
  context.ranks(options.ranks, options.ranks, "[bench]");
  require(options.threads <= kMaxThreads / options.ranks,
          "[bench] got {} ranks of {} threads; want at most {} threads in all",
          options.ranks, options.threads, kMaxThreads);
  // q, k, v and a gradient of the whole, each drawn in fp64.
  require_memory(4.0 * sizeof(double) * static_cast<double>(options.batch) *
                     static_cast<double>(options.seq_len) *
                     static_cast<double>(options.heads) *
                     static_cast<double>(options.head_dim),
                 "[bench] got a size");
  layout_of(options);
}

}  // namespace

void check_fits(const planner::PlanFile& plan, const std::string& path,
                const BenchOptions& options, std::int64_t kv_heads) {
  planner::ModelShape shape = plan.model;
  shape.heads = options.heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = options.head_dim;
  shape.batch = options.batch;
  shape.type = element_type_from_name(options.dtype);
  planner::check_fits(plan, path, options.ranks, shape, options.seq_len,
                      options.layout, options.mask);
}

at::ScalarType scalar_type(const BenchOptions& options) {
  return tensor::scalar_type(element_type_from_name(options.dtype));
}

schedule::Layout layout_of(const BenchOptions& options) {
  return schedule::Layout::named(options.layout, options.seq_len,
                                 options.ranks);
}

at::Tensor random_tensor(std::vector<std::int64_t> shape, at::ScalarType type,
                         std::uint64_t seed) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kDouble).to(type);
}

at::Tensor shard(const at::Tensor& whole, const schedule::Layout& layout,
                 Rank rank, bool gradient) {
  const std::vector<std::int64_t> positions = layout.positions(rank);
  const at::Tensor index = at::tensor(positions, at::kLong);
  return whole.detach().index_select(1, index).set_requires_grad(gradient);
}

BenchReport run_case(const BenchOptions& options, const BenchCase& bench_case,
                     const BenchCase::Operation& whole) {
  Shared shared;
  shared.report.name = bench_case.name;
  // Process-wide, and taken over by each new thread: once, before any starts.
  at::set_num_threads(options.threads);
  comm::Engine().run(options.ranks, {}, [&](comm::Communicator& communicator) {
    run_rank(options, bench_case, whole, communicator, shared);
  });
  std::sort(shared.report.links.begin(), shared.report.links.end(),
            [](const auto& a, const auto& b) {
              return std::pair(a.from, a.to) < std::pair(b.from, b.to);
            });
  std::sort(shared.report.buffers.begin(), shared.report.buffers.end(),
            [](const auto& a, const auto& b) { return a.rank < b.rank; });
  return std::move(shared.report);
}

void print_reports(const std::string& bench, const BenchOptions& options,
                   const std::string& baseline,
                   const std::vector<BenchReport>& reports) {
  const std::int64_t tokens = options.seq_len * options.batch;
  if (options.json) {
    Json cases = Json::array();
    for (const BenchReport& report : reports) {
      cases.push_back(to_json(report, tokens));
    }
    const Json all = {{"bench", bench},
                      {"baseline", baseline},
                      {"ranks", options.ranks},
                      {"threads", options.threads},
                      {"seq_len", options.seq_len},
                      {"batch", options.batch},
                      {"heads", options.heads},
                      {"head_dim", options.head_dim},
                      {"dtype", options.dtype},
                      {"layout", options.layout},
                      {"mask", options.mask.text()},
                      {"backward", !options.forward_only},
                      {"repeat", options.repeat},
                      {"cases", std::move(cases)}};
    fmt::print("{}\n", all.dump());
    return;
  }
  fmt::print(
      "{} of {} x {} tokens, {} heads of {}, {}, {}, {}{}\n"
      "split: {} ranks of {} thread(s); whole: {}, {} threads\n"
      "medians of {} pairs\n\n{}",
      bench, options.batch, options.seq_len, options.heads, options.head_dim,
      options.dtype, options.mask.text(), options.layout,
      options.forward_only ? ", forward" : ", forward and backward",
      options.ranks, options.threads, baseline, options.ranks * options.threads,
      options.repeat, table(reports, tokens));
}

CLI::App* add_benchmark(CLI::App& bench, Context& context,
                        const std::string& name, const std::string& text,
                        BenchOptions& options, std::function<void()> prepare,
                        std::function<void()> run) {
  CLI::App* command = bench.add_subcommand(name, text);
  add_options(*command, options);
  command->callback(
      [&context, &options, prepare = std::move(prepare), run = std::move(run)] {
        check(options, context);
        options.mask = mask_from_option(options.mask_argument, "[bench]");
        prepare();
        context.job = run;
      });
  return command;
}

void add_bench(CLI::App& app, Context& context) {
  CLI::App* bench = app.add_subcommand(
      "bench", "Time attention and linear attention over ranks");
  bench->require_subcommand(1);
  add_bench_attention(*bench, context);
  add_bench_linear(*bench, context);
}

}  // namespace ringweave::cli
