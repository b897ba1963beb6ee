#include "ringweave/sim/trace.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "ringweave/base/json.h"
#include "ringweave/plan/strategy.h"
#include "ringweave/sim/simulate.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::sim {
namespace {

TEST(Trace, HasARowPerRankAndLink) {
  const auto machine = topology::builtin("switch:ranks=3,rate=1000");
  const auto layout = plan::Layout::contiguous(300, 3);
  const auto schedule =
      plan::whole(plan::strategy_from_name("direct"),
                  plan::AttentionDemand(layout, layout, plan::Mask::full()),
                  plan::Pass::forward);
  const plan::Workload workload{
      .unit_bytes = {{plan::Payload::kv, 10}},
      .tile_seconds = [](const plan::Tile&) { return 0.125; }};
  const Timeline timeline = simulate(schedule, machine, workload);
  const Json trace =
      parse_json(chrome_trace({timeline, timeline}, machine), "trace");

  std::map<std::pair<int, int>, std::string> rows;
  std::map<std::pair<int, int>, double> busy_until;
  std::map<int, std::size_t> count;
  double last = 0;
  for (const Json& event : trace["traceEvents"]) {
    const std::pair row(event["pid"].get<int>(), event["tid"].get<int>());
    if (event["ph"] == "M") {
      if (event["name"] == "thread_name") rows[row] = event["args"]["name"];
      continue;
    }
    ASSERT_EQ(event["ph"], "X");
    const double start = event["ts"];
    const double duration = event["dur"];
    EXPECT_GE(start, last);
    EXPECT_GE(duration, 0);
    EXPECT_TRUE(rows.contains(row));
    // On one row nothing overlaps; a picosecond is rounding.
    EXPECT_GE(start, busy_until[row] - 1e-6);
    busy_until[row] = start + duration;
    last = start;
    ++count[row.first];
    EXPECT_LE(start + duration, 2e6 * timeline.seconds + 1e-6);
  }
  EXPECT_EQ(count[1], 2 * timeline.tiles.size());
  EXPECT_EQ(count[2], 2 * timeline.waits.size());
  EXPECT_EQ(count[3], 2 * 2 * timeline.messages.size());
  std::set<std::string> names;
  for (const auto& [row, name] : rows) names.insert(name);
  EXPECT_TRUE(
      names.contains(machine.vertex(0).name + " -> " + machine.vertex(3).name));
  EXPECT_TRUE(names.contains(machine.vertex(2).name));
}

}  // namespace
}  // namespace ringweave::sim
