// Processor seconds of making schedules, on one core.
//
//   build/release/ringweave/schedule/ringweave_schedule_bench
//
// walks: of finding the walks of blocks, once per process. forward,
// backward: of one rank's own part at 1024 ranks; of making, and of validating,
// a whole schedule at 64 ranks. ready: from the JSON of layout and mask to the
// compiled programs of both passes, of one rank of 8. The least of three calls.
#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ringweave/schedule/program/program.h"
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

/// Documents may change with every batch, and so must programs.
void print_programs() {
  constexpr std::int64_t kTokens = std::int64_t{1} << 20;
  constexpr int kRanks = 8;
  constexpr int kDocuments = 500;
  std::vector<std::int64_t> offsets;
  for (int i = 0; i <= kDocuments; ++i) {
    offsets.push_back(cut({0, kTokens}, i, kDocuments).begin);
  }
  offsets.back() = kTokens;
  const std::string mask =
      Mask::causal().with_documents(offsets).to_json().dump();
  const Strategy strategy = strategy_from_name("multi_ring");
  const int strands = strand_count(strategy, kRanks);
  fmt::print("\nprograms of multi_ring, {} tokens, {} documents\n", kTokens,
             kDocuments);
  fmt::print("{:<30}{:>9}\n", "layout", "ready");
  for (const char* name : {"contiguous", "zigzag", "striped"}) {
    const std::string layout =
        Layout::named(name, kTokens, kRanks).to_json().dump();
    const double ready = least_seconds([&] {
      const Layout tokens =
          Layout::from_json(parse_json(layout, "layout"), "layout");
      const AttentionDemand demand(
          tokens, tokens, Mask::from_json(parse_json(mask, "mask"), "mask"));
      const auto part = [&](Pass pass) {
        return rank_part(strategy, demand, pass, kRanks / 3);
      };
      const Program forward =
          compile(part(Pass::forward), kRanks / 3, demand, strands);
      compile(part(Pass::backward), kRanks / 3, demand, strands, &forward);
    });
    fmt::print("{:<30}{:>9.4f}\n", name, ready);
  }
}

}  // namespace

void print_all() {
  print_parts("contiguous, full mask",
              demand_of("contiguous", Mask::full(), 1024));
  print_parts("zigzag, causal", demand_of("zigzag", Mask::causal(), 1024));
  print_whole(demand_of("contiguous", Mask::full(), 64));
  print_programs();
}

}  // namespace ringweave::schedule

int main() { ringweave::schedule::print_all(); }
