#include "ringweave/sim/trace.h"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "ringweave/base/json.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/sim/simulate.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::sim {
namespace {

struct Trace {
  std::map<std::pair<int, int>, std::string> rows;  ///< by process, thread
  std::map<std::pair<int, int>, int> places;
  std::map<int, std::string> groups;
  std::map<int, int> group_places;
  std::vector<Json> events;

  /// Events of a group.
  std::vector<Json> of(const std::string& group) const {
    std::vector<Json> found;
    for (const Json& event : events) {
      if (groups.at(event["pid"]) == group) found.push_back(event);
    }
    return found;
  }
};

Trace read(const std::string& text) {
  Trace trace;
  const Json whole = parse_json(text, "trace");
  for (const Json& event : whole["traceEvents"]) {
    const int group = event["pid"];
    const std::pair row(group, event["tid"].get<int>());
    if (event["ph"] != "M") {
      trace.events.push_back(event);
    } else if (event["name"] == "thread_name") {
      EXPECT_TRUE(trace.rows.emplace(row, event["args"]["name"]).second);
    } else if (event["name"] == "thread_sort_index") {
      trace.places[row] = event["args"]["sort_index"];
    } else if (event["name"] == "process_name") {
      trace.groups[group] = event["args"]["name"];
    } else {
      EXPECT_EQ(event["name"], "process_sort_index");
      trace.group_places[group] = event["args"]["sort_index"];
    }
  }
  return trace;
}

Timeline timeline_of(const topology::Topology& machine, schedule::Pass pass,
                     double tile_seconds,
                     const std::vector<FailingLink>& failing = {}) {
  const int ranks = machine.ranks();
  const auto layout = schedule::Layout::contiguous(100L * ranks, ranks);
  const planner::Workload workload{
      .unit_bytes = {{schedule::Payload::kv, 10},
                     {schedule::Payload::kv_grad, 20}},
      .tile_work = [=](const schedule::Tile&) { return tile_seconds; }};
  SimulationOptions options;
  options.failing_links = failing;
  options.link_rates = true;
  return simulate(schedule::whole(schedule::strategy_from_name("direct"),
                                  schedule::AttentionDemand(
                                      layout, layout, schedule::Mask::full()),
                                  pass),
                  machine, workload, options);
}

TEST(Trace, HasARowPerRankAndLink) {
  const auto machine = topology::builtin("switch:ranks=3,rate=1000");
  const Timeline timeline =
      timeline_of(machine, schedule::Pass::forward, 0.125);
  const Trace trace = read(chrome_trace({timeline, timeline}, machine));

  std::map<std::pair<int, int>, double> busy_until;
  std::map<std::string, std::size_t> count;
  double last = 0;
  for (const Json& event : trace.events) {
    const std::pair row(event["pid"].get<int>(), event["tid"].get<int>());
    const double start = event["ts"];
    EXPECT_GE(start, last);
    last = start;
    if (event["ph"] == "C") continue;
    ASSERT_EQ(event["ph"], "X");
    const double duration = event["dur"];
    EXPECT_GE(duration, 0);
    EXPECT_TRUE(trace.rows.contains(row));
    EXPECT_TRUE(trace.places.contains(row));
    // On one row nothing overlaps; a picosecond is rounding.
    EXPECT_GE(start, busy_until[row] - 1e-6);
    busy_until[row] = start + duration;
    ++count[trace.groups.at(row.first)];
    EXPECT_LE(start + duration, 2e6 * timeline.seconds + 1e-6);
  }
  EXPECT_EQ(count["pass"], 2);
  EXPECT_EQ(count["compute"], 2 * timeline.tiles.size());
  EXPECT_EQ(count["waiting"], 2 * timeline.waits.size());
  EXPECT_EQ(count["messages on links"], 2 * 2 * timeline.messages.size());
  std::set<std::string> names;
  for (const auto& [row, name] : trace.rows) names.insert(name);
  EXPECT_TRUE(
      names.contains(machine.vertex(0).name + " -> " + machine.vertex(3).name));
  EXPECT_TRUE(names.contains(machine.vertex(2).name));
}

TEST(Trace, SortsRowsByNumbersNotByNames) {
  const auto machine = topology::builtin("switch:ranks=11,rate=1000");
  const Timeline timeline =
      timeline_of(machine, schedule::Pass::forward, 0.125);
  const Trace trace = read(chrome_trace({timeline}, machine));

  std::map<std::string, std::map<int, std::string>> sorted;
  for (const auto& [row, place] : trace.places) {
    auto& rows = sorted[trace.groups.at(row.first)];
    EXPECT_TRUE(rows.emplace(place, trace.rows.at(row)).second);
  }
  EXPECT_EQ(sorted["compute"][2], machine.vertex(2).name);
  EXPECT_EQ(sorted["compute"][10], machine.vertex(10).name);
  EXPECT_EQ(sorted["compute"].size(), 11);
  EXPECT_EQ(trace.group_places.size(), 5);

  // Each link's rows stand together, in the order of the vertices it joins.
  std::vector<std::string> links;
  for (const auto& [place, name] : sorted["messages on links"]) {
    const std::string link = name.substr(0, name.find(" ("));
    if (links.empty() || links.back() != link) links.push_back(link);
  }
  ASSERT_EQ(links.size(), 22);
  const std::string to_switch = " -> " + machine.vertex(11).name;
  EXPECT_EQ(links[1], machine.vertex(1).name + to_switch);
  EXPECT_EQ(links[10], machine.vertex(10).name + to_switch);

  // Counters are sorted by name: one name per link, in the same order.
  std::set<std::string> counters;
  for (const Json& event : trace.of("bytes/s of links")) {
    counters.insert(event["name"]);
  }
  std::vector<std::string> without_place;
  for (const std::string& name : counters)
    without_place.push_back(name.substr(3));
  EXPECT_EQ(without_place, links);
}

TEST(Trace, CountsWhatEachLinkCarries) {
  const auto machine = topology::builtin("mesh:ranks=2,rate=1000");
  const Timeline timeline = timeline_of(machine, schedule::Pass::forward, 0);
  const Trace trace = read(chrome_trace({timeline}, machine));
  const std::vector<Json> counts = trace.of("bytes/s of links");
  ASSERT_EQ(counts.size(), 4);
  for (const Json& event : counts) {
    EXPECT_EQ(event["ph"], "C");
    const bool begins = event["ts"] == 0;
    EXPECT_NEAR(event["args"]["bytes/s"], begins ? 1000 : 0, 1e-6);
    EXPECT_NEAR(event["ts"], begins ? 0 : 1e6, 1e-3);
  }
  EXPECT_EQ(counts[0]["name"].get<std::string>(),
            "0 " + machine.vertex(0).name + " -> " + machine.vertex(1).name);
}

TEST(Trace, LeavesOutWhatTakesNoTime) {
  const auto machine = topology::builtin("mesh:ranks=2,rate=1000");
  const Timeline timeline = timeline_of(machine, schedule::Pass::forward, 0);
  ASSERT_FALSE(timeline.tiles.empty());
  EXPECT_TRUE(read(chrome_trace({timeline}, machine)).of("compute").empty());
}

TEST(Trace, MarksThePasses) {
  const auto machine = topology::builtin("mesh:ranks=2,rate=1000");
  const Timeline forward = timeline_of(machine, schedule::Pass::forward, 0.125);
  const Timeline backward =
      timeline_of(machine, schedule::Pass::backward, 0.125);
  Trace trace = read(chrome_trace({forward, backward}, machine));
  const std::vector<Json> passes = trace.of("pass");
  ASSERT_EQ(passes.size(), 2);
  EXPECT_EQ(passes[0]["name"], "forward");
  EXPECT_EQ(passes[1]["name"], "backward");
  EXPECT_NEAR(passes[1]["ts"], 1e6 * forward.seconds, 1e-3);
  EXPECT_NEAR(passes[1]["dur"], 1e6 * backward.seconds, 1e-3);

  const Timeline lost =
      timeline_of(machine, schedule::Pass::forward, 0.125, {{0, 1, 0.5}});
  trace = read(chrome_trace({lost, backward}, machine));
  ASSERT_EQ(trace.of("pass").size(), 1);
  EXPECT_EQ(trace.of("pass")[0]["name"], "forward: no end");
  EXPECT_NEAR(trace.of("pass")[0]["dur"], 1e6, 1e-3);
}

TEST(Trace, SaysWhatASliceIs) {
  const auto machine = topology::builtin("mesh:ranks=2,rate=1000");
  const Timeline timeline =
      timeline_of(machine, schedule::Pass::forward, 0.125);
  const Trace trace = read(chrome_trace({timeline}, machine));
  const Json message = trace.of("messages on links").front();
  EXPECT_EQ(message["name"], "kv block (owner 0, strand 0)");
  EXPECT_EQ(message["args"], (Json{{"pass", "forward"},
                                   {"step", 0},
                                   {"owner", 0},
                                   {"strand", 0},
                                   {"part", 0},
                                   {"parts", 1},
                                   {"from", machine.vertex(0).name},
                                   {"to", machine.vertex(1).name},
                                   {"tokens", 100},
                                   {"bytes", 1000}}));
  EXPECT_EQ(trace.of("compute").front()["args"], (Json{{"pass", "forward"},
                                                       {"step", 0},
                                                       {"owner", 0},
                                                       {"strand", 0},
                                                       {"part", 0},
                                                       {"tokens", 100}}));
  EXPECT_EQ(trace.of("waiting").front()["args"],
            (Json{{"pass", "forward"}, {"step", 1}}));
}

}  // namespace
}  // namespace ringweave::sim
