// Processor seconds of making schedules, on one core.
//
//   build/release/ringweave/schedule/ringweave_schedule_bench
//
// walks: of finding the walks of blocks, once per process. forward,
// backward: of one rank's own part at 1024 ranks; of making, and of validating,
// a whole schedule at 64 ranks. The least of three calls.
#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::schedule {
namespace {

template <typename Call>
double seconds(Call call) {
  const std::clock_t start = std::clock();
  call();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

template <typename Call>
double least_seconds(Call call) {
  return std::min({seconds(call), seconds(call), seconds(call)});
}

AttentionDemand demand_of(const char* layout_name, const Mask& mask,
                          int ranks) {
  const Layout layout = Layout::named(layout_name, 4096L * ranks, ranks);
  return {layout, layout, mask};
}

void print_parts(const char* title, const AttentionDemand& demand) {
  const int ranks = demand.ranks();
  fmt::print("\none rank's own part at {} ranks, {}\n", ranks, title);
  fmt::print("{:<48}{:>9}{:>9}{:>9}\n", "strategy", "walks", "forward",
             "backward");
  for (const char* name :
       {"ring", "multi_ring", "time_varying_multi_ring", "direct", "all_gather",
        "paths:nodes=128", "double_ring:nodes=128", "hierarchical:nodes=128",
        "hierarchical:nodes=128,inner=multi_ring",
        "hierarchical:nodes=32,inner=time_varying_multi_ring"}) {
    const Strategy strategy = strategy_from_name(name);
    const double walks = seconds([&] { why_not(strategy, ranks); });
    if (why_not(strategy, ranks)) continue;
    const auto part = [&](Pass pass) {
      return least_seconds(
          [&] { rank_part(strategy, demand, pass, ranks / 3); });
    };
    fmt::print("{:<48}{:>9.3f}{:>9.3f}{:>9.3f}\n", name, walks,
               part(Pass::forward), part(Pass::backward));
  }
}

void print_whole(const AttentionDemand& demand) {
  const int ranks = demand.ranks();
  fmt::print("\na whole schedule of {} ranks\n", ranks);
  fmt::print("{:<30}{:>9}{:>9}{:>9}{:>9}\n", "strategy", "forward", "validate",
             "backward", "validate");
  for (const char* name : {"ring", "multi_ring", "time_varying_multi_ring",
                           "direct", "hierarchical:nodes=8"}) {
    const Strategy strategy = strategy_from_name(name);
    const int strands = strand_count(strategy, ranks);
    fmt::print("{:<30}", name);
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      Schedule schedule;
      const double made =
          least_seconds([&] { schedule = whole(strategy, demand, pass); });
      const double validated =
          least_seconds([&] { validate(schedule, demand, strands); });
      fmt::print("{:>9.3f}{:>9.3f}", made, validated);
    }
    fmt::print("\n");
  }
}

}  // namespace

void print_all() {
  print_parts("contiguous, full mask",
              demand_of("contiguous", Mask::full(), 1024));
  print_parts("zigzag, causal", demand_of("zigzag", Mask::causal(), 1024));
  print_whole(demand_of("contiguous", Mask::full(), 64));
}

}  // namespace ringweave::schedule

int main() { ringweave::schedule::print_all(); }
