#include "ringweave/sim/simulate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ringweave/plan/strategy.h"

namespace ringweave::sim {
namespace {

topology::Topology mesh(int ranks, double rate, double latency = 0) {
  topology::Topology::Spec spec;
  spec.name = "mesh";
  for (int i = 0; i < ranks; ++i) {
    spec.vertices.push_back(
        {topology::VertexKind::rank, fmt::format("gpu{}", i), 0});
  }
  for (int i = 0; i < ranks; ++i) {
    for (int j = 0; j < ranks; ++j) {
      if (i != j) spec.links.push_back({i, j, rate, latency, "link"});
    }
  }
  return topology::Topology(std::move(spec));
}

plan::AttentionDemand full(int ranks, std::int64_t shard) {
  const auto layout = plan::Layout::contiguous(shard * ranks, ranks);
  return plan::AttentionDemand(layout, layout, plan::Mask::full());
}

TEST(Simulate, MultiRing) {
  const auto schedule = plan::whole(plan::strategy_from_name("multi_ring"),
                                    full(5, 400), plan::Pass::forward);
  const Timeline timeline = simulate(schedule, mesh(5, 1000),
                                     {.unit_bytes = {{plan::Payload::kv, 10}}});
  EXPECT_NEAR(timeline.seconds, 4.0, 1e-9);
}

TEST(Simulate, Large) {
  const auto schedule = plan::whole(plan::strategy_from_name("multi_ring"),
                                    full(64, 6300), plan::Pass::forward);
  const Timeline timeline = simulate(schedule, mesh(64, 1000, 1e-3),
                                     {.unit_bytes = {{plan::Payload::kv, 10}}});
  EXPECT_NEAR(timeline.seconds, 63.063, 1e-9);
}

}  // namespace
}  // namespace ringweave::sim
