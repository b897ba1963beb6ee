#include "ringweave/topology/topology_file.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::topology {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::ThrowsMessage;

void expect_same(const Topology& a, const Topology& b) {
  EXPECT_EQ(a.name(), b.name());
  EXPECT_EQ(a.source(), b.source());
  EXPECT_EQ(a.ranks(), b.ranks());
  ASSERT_EQ(a.vertices(), b.vertices());
  for (int v = 0; v < a.vertices(); ++v) EXPECT_EQ(a.vertex(v), b.vertex(v));
  EXPECT_EQ(a.links(), b.links());
  EXPECT_EQ(a.ranks_forward(), b.ranks_forward());
  EXPECT_EQ(a.fabric(), b.fabric());
  EXPECT_EQ(a.measured(), b.measured());
}

/// The graph of `topology` spelled out, not as a fabric.
Topology spelled_out(const Topology& topology) {
  Topology::Spec spec;
  spec.name = topology.name();
  spec.ranks_forward = topology.ranks_forward();
  for (int v = 0; v < topology.vertices(); ++v) {
    spec.vertices.push_back(topology.vertex(v));
  }
  spec.links = topology.links();
  return Topology(std::move(spec));
}

TEST(TopologyFile, RoundTripOfEveryBuiltin) {
  for (const BuiltinName& name : builtin_names()) {
    SCOPED_TRACE(name.name);
    const Topology topology = builtin(name.name);
    expect_same(topology_from_json(to_json(topology), "file"), topology);
    const Topology graph = spelled_out(topology);
    expect_same(topology_from_json(to_json(graph), "file"), graph);
  }
  const Topology nodes = builtin("two_level:nodes=2,nics=1,nic=3e9,rate=5e9");
  expect_same(topology_from_json(to_json(nodes), "file"), nodes);
}

TEST(TopologyFile, FabricsStaySymbolic) {
  const Topology large = builtin("two_level:ranks=1024,nodes=128");
  EXPECT_LT(to_json(large).dump().size(), 600U);
  // Not if a link is not what the fabric says.
  Topology::Spec spec = expanded(*builtin_fabric("mesh:ranks=3"));
  spec.links[1].bytes_per_second /= 2;
  const Topology slow(std::move(spec));
  const Json json = to_json(slow);
  EXPECT_FALSE(json.contains("fabric"));
  EXPECT_THAT(json["links"], SizeIs(4));
  EXPECT_EQ(topology_from_json(json, "f").links(), slow.links());
}

constexpr const char* kPair = R"({
  "format": "ringweave.topology", "version": 1, "name": "pair",
  "ranks": [{"name": "a"}, {"name": "b", "node": 1}],
  "switches": [{"name": "s"}, {"name": "n", "kind": "nic", "node": 1}],
  "links": [
    {"from": "a", "to": "s", "bytes_per_second": 5e9, "class": "x"},
    {"from": "s", "to": "n", "bytes_per_second": 4e9, "duplex": "half",
     "latency_seconds": 1e-6},
    {"from": "n", "to": "b", "bytes_per_second": 3e9, "duplex": "simplex"},
    {"from": "b", "to": "n", "bytes_per_second": 2e9, "duplex": "simplex"}],
  "measured": {"method": "by hand"}})";

Json pair() { return parse_json(kPair, "pair.json"); }

TEST(TopologyFile, ReadsDuplexAndDefaults) {
  const Topology topology = topology_from_json(pair(), "pair.json");
  ASSERT_THAT(topology.links(), SizeIs(6));
  const auto& links = topology.links();
  EXPECT_EQ(links[0].link_class, "x");
  EXPECT_EQ(links[1].bytes_per_second, 5e9);
  EXPECT_EQ(links[0].shared, -1);
  EXPECT_EQ(links[2].shared, 0);
  EXPECT_EQ(links[3].shared, 0);
  EXPECT_EQ(links[3].latency_seconds, 1e-6);
  EXPECT_EQ(links[4].bytes_per_second, 3e9);
  EXPECT_EQ(links[5].bytes_per_second, 2e9);
  EXPECT_EQ(topology.vertex(3).kind, VertexKind::nic);
  EXPECT_EQ(topology.measured()["method"], "by hand");
  expect_same(topology_from_json(to_json(topology), "again"), topology);
}

TEST(TopologyFile, RefusesCapacitiesThatItCannotTell) {
  Topology::Spec spec = expanded(*builtin_fabric("ring:ranks=3"));
  for (Link& link : spec.links) link.shared = 0;
  const Topology bus(std::move(spec));
  EXPECT_THAT([&] { to_json(bus); },
              ThrowsMessage<InvalidArgument>(HasSubstr("shares its capacity")));
}

void expect_refused(const Json& json, const std::string& text) {
  EXPECT_THAT([&] { topology_from_json(json, "t.json"); },
              ThrowsMessage<InvalidArgument>(HasSubstr(text)));
}

TEST(TopologyFile, RefusesBadLinks) {
  const std::map<std::string, std::pair<Json, std::string>> faults = {
      {"bytes_per_second", {0, "t.json.links[0].bytes_per_second] got 0"}},
      {"latency_seconds", {-1, "t.json.links[0].latency_seconds] got -1"}},
      {"from", {"q", "t.json.links[0].from] got \"q\""}},
      {"to", {"a", "\"a\" to itself"}},
      {"class", {7, "links[0].class"}},
      {"duplex", {"ful", "\"full\""}},
      {"byte_per_second", {1, "bytes_per_second"}}};
  for (const auto& [key, fault] : faults) {
    SCOPED_TRACE(key);
    Json json = pair();
    json["links"][0][key] = fault.first;
    expect_refused(json, fault.second);
  }
  Json json = pair();
  json["links"][0]["bytes_per_second"] = -5;
  expect_refused(json, "got -5");
  json["links"][0].erase("bytes_per_second");
  expect_refused(json, "bytes_per_second] got nothing");
  json = pair();
  json["links"].push_back(
      {{"from", "s"}, {"to", "a"}, {"bytes_per_second", 1}});
  expect_refused(json, "links[4]] got a second link between \"s\" and \"a\"");
}

TEST(TopologyFile, RefusesBadVertices) {
  Json json = pair();
  json["switches"][0]["name"] = "b";
  expect_refused(json, "switches[0].name] got \"b\" a second time");
  json = pair();
  json["switches"][0]["kind"] = "hub";
  expect_refused(json, "switches[0].kind");
  json = pair();
  json["ranks"] = Json::array();
  expect_refused(json, "ranks] got none");
  json = pair();
  json["ranks"][0]["nod"] = 1;
  expect_refused(json, "\"node\"");
  json = pair();
  json["links"].erase(3);
  expect_refused(json, "no path from b to a");
  json = pair();
  json["link"] = 1;
  expect_refused(json, "\"links\"");
  json = pair();
  json["version"] = 2;
  expect_refused(json, "version");
}

TEST(TopologyFile, RefusesWhatNoTerminalShouldGet) {
  Json json = pair();
  json["ranks"][0]["name"] = "gpu\x1b[31m";
  expect_refused(json, "t.json.ranks[0].name] got \"gpu\\u001b[31m\"");
  json = pair();
  json["ranks"][0]["name"] = "";
  expect_refused(json, "t.json.ranks[0].name] got \"\"; want a name");
  for (const char* word : {"", "x\ny"}) {
    json = pair();
    json["links"][0]["class"] = word;
    expect_refused(json, "t.json.links[0].class] got");
    json = pair();
    json["name"] = word;
    expect_refused(json, "t.json.name] got");
  }
  json = pair();
  json["source"] = "\x07";
  expect_refused(json, "t.json.source] got");
}

TEST(TopologyFile, RefusesMoreRanksThanCanBeSearched) {
  Json json = pair();
  for (int i = 0; i < 1023; ++i) {
    json["ranks"].push_back({{"name", fmt::format("r{}", i)}});
  }
  expect_refused(json, "t.json.ranks] got 1025; want at most 1024");
}

TEST(TopologyFile, RefusesRatesAndLatenciesOutOfRange) {
  for (const char* key : {"bytes_per_second", "latency_seconds"}) {
    Json json = pair();
    json["links"][0][key] = 1e308;
    expect_refused(json, std::string("links[0].") + key + "] got 1e+308");
  }
  Json json = pair();
  json["links"][0]["bytes_per_second"] = 5e-324;
  expect_refused(json, "want 1 … 1e+18");
  json = to_json(builtin("mesh"));
  json["fabric"]["link_latency_seconds"] = 1e308;
  expect_refused(json,
                 "fabric.link_latency_seconds] got 1e+308; want 0 … 1000");
}

TEST(TopologyFile, RefusesBadFabrics) {
  Json json = to_json(builtin("two_level"));
  json["fabric"]["nodes"] = 3;
  expect_refused(json, "t.json.fabric] [fabric] got 8 ranks in 3 nodes");
  json = to_json(builtin("torus"));
  json["fabric"]["dimensions"] = {4, 5};
  expect_refused(json, "16 ranks in a torus of 20 places");
  json["fabric"]["link_bytes_per_second"] = 0;
  expect_refused(json, "fabric.link_bytes_per_second] got 0");
  json = to_json(builtin("mesh"));
  json["ranks"] = Json::array();
  expect_refused(json, "beside \"fabric\"");
  json = to_json(builtin("mesh"));
  json["fabric"]["nodes"] = 2;
  expect_refused(json, "nodes");
}

TEST(TopologyFile, TableOfNvidiaSmiSaysHowToConvertIt) {
  const auto path = std::filesystem::temp_directory_path() /
                    fmt::format("ringweave_topology_test_{}", ::getpid());
  std::ofstream(path) << "\tGPU0\tGPU1\tCPU Affinity\n"
                         "GPU0\t X \tNV1\t0-7\nGPU1\tNV1\t X \t0-7\n";
  const std::string how = fmt::format(
      "convert it with `ringweave topology show {} --save", path.string());
  EXPECT_THAT([&] { load_topology(path); },
              ThrowsMessage<InvalidArgument>(HasSubstr(how)));
  EXPECT_THAT([&] { load_fabric(path); },
              ThrowsMessage<InvalidArgument>(HasSubstr(how)));
  std::ofstream(path) << "{\"name\": \"GPU0\"";
  EXPECT_THAT([&] { load_topology(path); },
              ThrowsMessage<InvalidArgument>(HasSubstr("syntax error")));
  std::filesystem::remove(path);
}

TEST(TopologyFile, LoadsNamesAndFiles) {
  EXPECT_EQ(load_topology("ring:ranks=5").ranks(), 5);
  EXPECT_EQ(load_fabric("ring:ranks=5")->ranks, 5);
  EXPECT_THAT([] { load_topology("absent.json"); },
              ThrowsMessage<InvalidArgument>(HasSubstr("absent.json")));
}

}  // namespace
}  // namespace ringweave::topology
