#include "ringweave/discovery/classify.h"

#include <algorithm>
#include <functional>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::discovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kBytes = 1e6;
constexpr double kLatency = 1e-5;

/// What a message of a pair occupies: by name, bytes per second.
using Uses = std::function<std::map<std::string, double>(Rank, Rank)>;

/// The figures of a machine whose messages share what they use.
Measurements measured(int ranks, const Uses& uses) {
  Measurements numbers{
      .ranks = ranks,
      .rounds = 5,
      .sizes = {static_cast<std::int64_t>(kBytes)},
      .latency = std::vector(
          ranks, std::vector<Figure>(ranks, {kLatency, kLatency, kLatency})),
      .patterns = {}};
  const auto add = [&](const std::vector<Pattern>& patterns) {
    for (const Pattern& pattern : patterns) {
      std::map<std::string, double> load;
      double busiest = 0;
      for (const auto& [from, to] : pattern.pairs) {
        for (const auto& [name, rate] : uses(from, to)) {
          busiest = std::max(busiest, load[name] += kBytes / rate);
        }
      }
      const double time = busiest + 2 * kLatency;
      numbers.patterns.push_back({pattern, {{time, time, time}}});
    }
  };
  add(flat_patterns(ranks));
  const Grouping grouping = find_groups(numbers);
  if (grouping.are_nodes()) add(group_patterns(grouping.groups));
  return numbers;
}

std::string wire(Rank from, Rank to) {
  return fmt::format("{} to {}", from, to);
}

Uses mesh(double rate) {
  return [=](Rank from, Rank to) {
    return std::map<std::string, double>{{wire(from, to), rate}};
  };
}

/// Nodes that are a mesh inside with one NIC each.
Uses nodes(std::vector<int> node, double rate, double nic) {
  return [=](Rank from, Rank to) -> std::map<std::string, double> {
    if (node[from] == node[to]) return {{wire(from, to), rate}};
    return {{fmt::format("out of {}", node[from]), nic},
            {fmt::format("into {}", node[to]), nic}};
  };
}

Measurements::Timed& timed(Measurements& numbers, const std::string& name) {
  const auto found = std::ranges::find_if(
      numbers.patterns,
      [&](const auto& timed) { return timed.pattern.name == name; });
  EXPECT_NE(found, numbers.patterns.end());
  return *found;
}

/// The reason why the numbers are no more than a matrix.
std::string refusal(const Measurements& numbers) {
  const Classification found = classify(numbers);
  EXPECT_FALSE(found.kind) << found.reason;
  EXPECT_FALSE(found.topology.fabric());
  EXPECT_EQ(found.topology.measured()["kind"], "matrix");
  EXPECT_EQ(found.topology.links().size(),
            static_cast<std::size_t>(numbers.ranks * (numbers.ranks - 1)));
  return found.reason;
}

TEST(Figure, IsMedianAndQuartiles) {
  const Figure figure = figure_of({5, 1, 3, 2, 4});
  EXPECT_EQ(figure.median, 3);
  EXPECT_EQ(figure.low, 2);
  EXPECT_EQ(figure.high, 4);
  EXPECT_EQ(figure_of({7}).high, 7);
  EXPECT_EQ(figure_of({1, 2}).median, 1.5);
}

TEST(Patterns, AreWhatTheirNamesSay) {
  const auto patterns = flat_patterns(3);
  EXPECT_EQ(patterns.size(), 6 + 2 * 3 + 2U);
  EXPECT_EQ(patterns[6].name, "0 to all");
  EXPECT_THAT(patterns[6].pairs, ElementsAre(RankPair(0, 1), RankPair(0, 2)));
  EXPECT_EQ(patterns.back().pairs.size(), 6U);
  const auto groups = group_patterns({{0, 2}, {1, 3}});
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_THAT(groups[0].pairs, ElementsAre(RankPair(0, 2), RankPair(2, 0),
                                           RankPair(1, 3), RankPair(3, 1)));
  EXPECT_THAT(groups[2].pairs, ElementsAre(RankPair(1, 0), RankPair(3, 2)));
}

TEST(Classify, FindsNodesWhateverTheirRanksNumbers) {
  const Measurements numbers =
      measured(6, nodes({0, 1, 0, 1, 1, 0}, 40e6, 5e6));
  EXPECT_THAT(find_groups(numbers).groups,
              ElementsAre(ElementsAre(0, 2, 5), ElementsAre(1, 3, 4)));
  const Classification found = classify(numbers);
  ASSERT_EQ(found.kind, topology::FabricKind::two_level) << found.reason;
  const topology::Topology& topology = found.topology;
  EXPECT_FALSE(topology.fabric());  // that numbers ranks node by node
  EXPECT_EQ(topology.vertex(5).node, topology.vertex(0).node);
  EXPECT_NE(topology.vertex(1).node, topology.vertex(0).node);
  EXPECT_TRUE(topology.link(0, 5));
  EXPECT_FALSE(topology.link(0, 1));
  EXPECT_EQ(topology.route(0, 1).size(), 4U);
}

TEST(Classify, TheFileKeepsFabricAndFigures) {
  const Classification found =
      classify(measured(4, nodes({0, 0, 1, 1}, 40e6, 5e6)));
  const topology::Topology read =
      topology::topology_from_json(to_json(found.topology), "probe.json");
  ASSERT_TRUE(read.fabric());
  EXPECT_EQ(*read.fabric(), *found.topology.fabric());
  EXPECT_EQ(read.fabric()->nics_per_node, 1);
  EXPECT_EQ(read.measured()["kind"], "two_level");
  EXPECT_EQ(read.measured()["rounds"], 5);
  EXPECT_EQ(read.measured()["latency_seconds"].size(), 12U);
  EXPECT_EQ(read.measured()["patterns"][0]["seconds"].size(), 1U);
}

TEST(Classify, AllowsForTheSpread) {
  Measurements numbers = measured(4, mesh(10e6));
  Figure& ring = timed(numbers, "ring").seconds[0];
  ring = {1.3 * ring.median, 1.1 * ring.median, 1.5 * ring.median};
  EXPECT_EQ(classify(numbers).kind, topology::FabricKind::mesh);
}

TEST(Classify, OneSlowLinkIsNoMesh) {
  const Measurements numbers = measured(4, [](Rank from, Rank to) {
    return std::map<std::string, double>{
        {wire(from, to), from == 1 && to == 2 ? 2e6 : 10e6}};
  });
  EXPECT_THAT(refusal(numbers), HasSubstr("form no groups"));
  const topology::Topology topology = classify(numbers).topology;
  EXPECT_NEAR(topology.links()[*topology.link(1, 2)].bytes_per_second, 2e6, 1);
  EXPECT_NEAR(topology.links()[*topology.link(2, 1)].bytes_per_second, 10e6, 1);
}

TEST(Classify, NodesHaveTheSameNumberOfRanks) {
  EXPECT_THAT(refusal(measured(5, nodes({0, 0, 0, 1, 1}, 40e6, 5e6))),
              HasSubstr("2 to 3 ranks"));
}

TEST(Classify, ABusIsNoSwitch) {
  const auto bus = [](Rank, Rank) {
    return std::map<std::string, double>{{"bus", 10e6}};
  };
  EXPECT_THAT(refusal(measured(4, bus)), HasSubstr("neither mesh"));
}

TEST(Classify, RefusesRepeatsThatContradictEachOther) {
  Measurements numbers = measured(4, mesh(10e6));
  Figure& figure = timed(numbers, "2 to 1").seconds[0];
  figure.high = 2 * figure.low;
  EXPECT_THAT(refusal(numbers), HasSubstr("\"2 to 1\""));
  numbers = measured(4, mesh(10e6));
  numbers.rounds = 2;
  EXPECT_THAT(refusal(numbers), HasSubstr("2 rounds"));
}

TEST(Classify, RefusesPairsThatAreFasterTogetherThanAlone) {
  Measurements numbers = measured(4, mesh(10e6));
  const double half = timed(numbers, "all pairs").seconds[0].median / 2;
  timed(numbers, "all pairs").seconds = {{half, half, half}};
  EXPECT_THAT(refusal(numbers), HasSubstr("\"all pairs\""));
}

TEST(Classify, RefusesMessagesThatLatencyHides) {
  EXPECT_THAT(refusal(measured(3, mesh(kBytes / kLatency))),
              HasSubstr("larger messages"));
}

TEST(Classify, WantsPositiveTimes) {
  Measurements numbers = measured(3, mesh(10e6));
  numbers.latency[0][1].low = 0;
  EXPECT_THROW(classify(numbers), InvalidArgument);
  numbers = measured(3, mesh(10e6));
  timed(numbers, "ring").seconds[0].low = -1;
  EXPECT_THROW(classify(numbers), InvalidArgument);
  numbers.ranks = 1;
  EXPECT_THROW(classify(numbers), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::discovery
