#include "ringweave/cli/bench/bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/mask_option.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/comm/engine.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::cli {
namespace {

using Seconds = std::chrono::duration<double>;

/// After a team of OpenMP threads has worked, its idle members spin for some
/// milliseconds; the next measurement waits until they sleep.
constexpr std::chrono::milliseconds kCalm{20};

double seconds_for(const std::function<void()>& work) {
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
    const at::Tensor want = shard(whole[i], layout, rank).to(at::kDouble);
    const at::Tensor got = split[i].cpu().to(at::kDouble);
    const double scale = std::max(1.0, whole[i].abs().max().item<double>());
    worst = std::max(worst, (got - want).abs().max().item<double>() / scale);
  }
  return worst;
}

std::vector<at::Tensor> on_host(std::vector<at::Tensor> results) {
  for (at::Tensor& result : results) result = result.cpu();
  return results;
}

/// The results of the whole, of which each process has its own. Written between
/// barriers, by its first rank.
struct Shared {
  std::vector<at::Tensor> whole;
};

std::map<Rank, std::int64_t> bytes_sent(comm::Communicator& communicator) {
  std::map<Rank, std::int64_t> bytes;
  for (const auto& [to, sent] : communicator.traffic().sent) {
    bytes[to] = sent.bytes;
  }
  return bytes;
}

/// What one rank found out, as all ranks gather it.
struct Findings {
  double max_error = 0;
  std::vector<BenchReport::Link> links;
  std::optional<BenchReport::Buffers> buffers;
};

Json as_json(const Findings& findings) {
  Json links = Json::array();
  for (const BenchReport::Link& link : findings.links) {
    links.push_back({link.from, link.to, link.sent_bytes, link.planned_bytes});
  }
  Json json = {findings.max_error, std::move(links)};
  if (const auto& buffers = findings.buffers) {
    json.push_back(
        {buffers->rank, buffers->peak_bytes, buffers->planned_bytes});
  }
  return json;
}

/// In rank order.
void gather(const Findings& mine, comm::Communicator& communicator,
            BenchReport& report) {
  for (const Json& json : comm::all_gather_json(as_json(mine), communicator)) {
    report.max_error = std::max(report.max_error, json[0].get<double>());
    for (const Json& link : json[1]) {
      report.links.push_back({.from = link[0].get<Rank>(),
                              .to = link[1].get<Rank>(),
                              .sent_bytes = link[2].get<std::int64_t>(),
                              .planned_bytes = link[3].get<std::int64_t>()});
    }
    if (json.size() < 3) continue;
    report.buffers.push_back({.rank = json[2][0].get<Rank>(),
                              .peak_bytes = json[2][1].get<std::int64_t>(),
                              .planned_bytes = json[2][2].get<std::int64_t>()});
  }
}

/// Runs both once: warms up, counts bytes, compares results. `first`: whether
/// this is the first rank of its process.
void rehearse(const BenchOptions& options, const BenchCase::Part& split,
              const BenchCase::Operation& whole, bool first,
              comm::Communicator& communicator, Shared& shared,
              BenchReport& report) {
  const Rank rank = communicator.rank();
  const auto before = bytes_sent(communicator);
  const std::vector<at::Tensor> results = split.operation();
  const auto after = bytes_sent(communicator);
  if (first) shared.whole = on_host(whole());
  communicator.barrier();
  Findings mine;
  mine.max_error = error_of(results, shared.whole, layout_of(options), rank);
  for (Rank to = 0; to < options.ranks; ++to) {
    if (to == rank) continue;
    const auto bytes = [&](const std::map<Rank, std::int64_t>& links) {
      const auto found = links.find(to);
      return found == links.end() ? 0 : found->second;
    };
    mine.links.push_back({.from = rank,
                          .to = to,
                          .sent_bytes = bytes(after) - bytes(before),
                          .planned_bytes = bytes(split.planned_bytes)});
  }
  if (split.planned_buffers) {
    mine.buffers = {.rank = rank,
                    .peak_bytes = communicator.traffic().peak_buffer_bytes,
                    .planned_bytes = *split.planned_buffers};
  }
  gather(mine, communicator, report);
}

/// Returns a report on rank 0.
BenchReport run_rank(const BenchOptions& options, const BenchCase& bench_case,
                     const BenchCase::Operation& whole, bool first,
                     comm::Communicator& communicator, Shared& shared) {
  const bool leads = communicator.rank() == 0;
  BenchReport report{.name = bench_case.name, .pairs = {}, .links = {}};
  const BenchCase::Part split = bench_case.split(communicator);
  ensure(at::get_num_threads() == options.threads,
         "a rank has {} threads instead of {}", at::get_num_threads(),
         options.threads);
  rehearse(options, split, whole, first, communicator, shared, report);
  const at::Device device =
      torch_device_of(options.device, communicator.rank());
  for (int i = 0; i < options.repeat; ++i) {
    BenchReport::Pair pair;
    if (leads) std::this_thread::sleep_for(kCalm);
    communicator.barrier();
    pair.split_seconds = seconds_for([&] {
      split.operation();
      wait_for_device(device);
      communicator.barrier();
    });
    if (leads) {
      check_interrupted();
      // The other ranks sleep in the barrier meanwhile.
      at::set_num_threads(options.ranks * options.threads);
      pair.whole_seconds = seconds_for([&] {
        whole();
        wait_for_device(device);
      });
      at::set_num_threads(options.threads);
      report.pairs.push_back(pair);
    }
    communicator.barrier();
  }
  return report;
}

void add_options(CLI::App& command, BenchOptions& options) {
  const auto number = [&](const std::string& flag, auto& value,
                          const std::string& text) {
    command.add_option(flag, value, text)
        ->type_name("N")
        ->capture_default_str();
  };
  number("--ranks", options.ranks,
         "Ranks, as threads of this process (under a launcher: its processes)");
  number("--threads", options.threads,
         "Threads per rank; one device gets ranks x threads");
  number("--seq-len", options.seq_len, "Tokens of each whole sequence");
  number("--batch", options.batch, "Sequences");
  number("--heads", options.heads, "Heads");
  number("--head-dim", options.head_dim, "Numbers per head and token");
  number("--repeat", options.repeat, "Pairs of measurements");
  command
      .add_option("--dtype", options.dtype,
                  "float64, float32, bfloat16 or float16")
      ->check(one_of(element_type_names()))
      ->capture_default_str();
  command
      .add_option("--device", options.device,
                  "Where ranks, as threads, compute: cpu, or the kind of "
                  "accelerator that torch has, such as cuda; they take its "
                  "devices in turn")
      ->type_name("DEVICE")
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
void check(const BenchOptions& options) {
  const auto positive = [](const char* flag, std::int64_t value) {
    require(value >= 1, "[bench] got {} {}; want at least 1", flag, value);
  };
  positive("--ranks", options.ranks);
  positive("--threads", options.threads);
  positive("--seq-len", options.seq_len);
  positive("--batch", options.batch);
  positive("--heads", options.heads);
  positive("--head-dim", options.head_dim);
  check_repeat(options.repeat, "[bench]");
  check_torch_device(options.device);
  require(options.threads <= kMaxThreads / options.ranks,
          "[bench] got {} ranks of {} threads; want at most {} threads in all",
          options.ranks, options.threads, kMaxThreads);
  layout_of(options);
}

}  // namespace

void check_memory_of_tensors(const BenchOptions& options) {
  // q, k, v and a gradient, each drawn in fp64.
  require_memory(4.0 * sizeof(double) * static_cast<double>(options.batch) *
                     static_cast<double>(options.seq_len) *
                     static_cast<double>(options.heads) *
                     static_cast<double>(options.head_dim),
                 "[bench] got a size");
}

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
                 Rank rank) {
  const std::vector<std::int64_t> positions = layout.positions(rank);
  return whole.index_select(1, at::tensor(positions, at::kLong));
}

BenchReport run_case(const comm::Engine& engine, const BenchOptions& options,
                     const BenchCase& bench_case,
                     const BenchCase::Operation& whole) {
  Shared shared;
  BenchReport report;
  // Process-wide, and taken over by each new thread: once, before any starts.
  at::set_num_threads(options.threads);
  engine.run(options.ranks, {}, [&](comm::Communicator& communicator) {
    const bool first = communicator.rank() == engine.rank();
    BenchReport mine =
        run_rank(options, bench_case, whole, first, communicator, shared);
    if (first) report = std::move(mine);
  });
  return report;
}

Json facts_of(const std::string& bench, const BenchOptions& options) {
  return {{"bench", bench},
          {"ranks", options.ranks},
          {"threads", options.threads},
          {"seq_len", options.seq_len},
          {"batch", options.batch},
          {"heads", options.heads},
          {"head_dim", options.head_dim},
          {"dtype", options.dtype},
          {"device", options.device},
          {"layout", options.layout},
          {"mask", options.mask.text()},
          {"backward", !options.forward_only},
          {"repeat", options.repeat}};
}

std::string title_of(const std::string& bench, const BenchOptions& options) {
  return fmt::format(
      "{} of {} x {} tokens, {} heads of {}, {}{}, {}, {}{}", bench,
      options.batch, options.seq_len, options.heads, options.head_dim,
      options.dtype,
      options.device == kHostDevice ? ""
                                    : fmt::format(" on {}", options.device),
      options.mask.text(), options.layout,
      options.forward_only ? ", forward" : ", forward and backward");
}

void print_reports(const std::string& bench, const BenchOptions& options,
                   const Json& own, const std::string& baseline,
                   const std::vector<BenchReport>& reports) {
  const std::int64_t tokens = options.seq_len * options.batch;
  if (options.json) {
    Json cases = Json::array();
    for (const BenchReport& report : reports) {
      cases.push_back(to_json(report, tokens));
    }
    Json all = facts_of(bench, options);
    all.update(own);
    all["baseline"] = baseline;
    all["cases"] = std::move(cases);
    fmt::print("{}\n", all.dump());
    return;
  }
  fmt::print(
      "{}\nsplit: {} ranks of {} thread(s); whole: {}, {} threads\n"
      "medians of {} pairs\n\n{}",
      title_of(bench, options), options.ranks, options.threads, baseline,
      options.ranks * options.threads, options.repeat, table(reports, tokens));
}

CLI::App* add_benchmark(CLI::App& bench, Context& context,
                        const std::string& name, const std::string& text,
                        BenchOptions& options, Prepare prepare,
                        std::function<void()> run) {
  CLI::App* command = bench.add_subcommand(name, text);
  add_options(*command, options);
  command->callback([&context, &options, command, prepare = std::move(prepare),
                     run = std::move(run)] {
    options.ranks = context.ranks(command->count("--ranks") > 0
                                      ? std::optional(options.ranks)
                                      : std::nullopt,
                                  options.ranks, "[bench]");
    check(options);
    require(options.device == kHostDevice || !context.engine.is_group(),
            "[bench] got --device {} under a launcher; want cpu, or ranks as "
            "threads of one process",
            options.device);
    options.mask = mask_from_option(options.mask_argument, "[bench]");
    context.facts = prepare();
    context.facts["command"] = "bench";
    for (const CLI::Option* option : command->get_options()) {
      context.facts[option->get_name()] =
          fmt::format("{}", fmt::join(option->results(), ","));
    }
    context.job = run;
  });
  return command;
}

void add_bench(CLI::App& app, Context& context) {
  CLI::App* bench = app.add_subcommand("bench", "Time what ranks do together");
  bench->require_subcommand(1);
  add_bench_attention(*bench, context);
  add_bench_linear(*bench, context);
  add_bench_exchange(*bench, context);
  add_bench_model(*bench, context);
}

}  // namespace ringweave::cli
