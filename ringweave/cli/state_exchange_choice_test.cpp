// Which exchange of states the cost model would choose, against the clock of
// emulated links: exchanges alone, nothing is computed.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ringweave/cli/bench/transfers.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/emulation/emulated_links.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

using schedule::Pass;
using topology::Topology;

class NoWork final : public comm::Worker {
 public:
  void arrived(int) override {}
  void compute(int) override {}
};

/// Of the slowest rank, by the links' clock.
double measured_seconds(const Exchanged& exchanged, const Topology& machine) {
  double slowest = 0;
  comm::run_ranks(
      machine.ranks(),
      [&](Rank rank, auto transport) {
        comm::Communicator communicator(std::move(transport));
        const Exchanged::Part part = exchanged.part(rank);
        const comm::ProgramMemory memory =
            zeroed_memory(part, exchanged.unit_bytes());
        NoWork worker;
        communicator.barrier();
        const double start = communicator.transport().seconds();
        comm::execute(part.program, memory, worker, communicator, "states");
        const double seconds = comm::max_over_ranks(
            communicator.transport().seconds() - start, communicator);
        if (rank == 0) slowest = seconds;
      },
      {},
      [&](comm::Transports ranks) {
        return emulation::emulated_links(std::move(ranks), machine);
      });
  return slowest;
}

struct Machine {
  const char* name;
  std::int64_t state_bytes;
  bool causal = true;
};

std::ostream& operator<<(std::ostream& out, const Machine& machine) {
  return out << machine.name << ", states of " << machine.state_bytes
             << (machine.causal ? "" : ", full mask");
}

class StateExchangeChoice : public testing::TestWithParam<Machine> {};

TEST_P(StateExchangeChoice, IsTheFastestOnEmulatedLinks) {
  const Topology machine = topology::load_topology(GetParam().name);
  std::map<std::string, double> predicted, measured;
  for (const auto& exchange : schedule::all_exchanges(machine.nodes())) {
    if (exchange->why_not(machine.ranks())) continue;
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      const auto exchanged =
          exchanged_states(exchange, machine.ranks(), GetParam().causal, pass,
                           GetParam().state_bytes);
      const auto cost = exchanged->cost(machine);
      ASSERT_TRUE(cost) << exchange->name();
      predicted[exchange->name()] += *cost;
      measured[exchange->name()] += measured_seconds(*exchanged, machine);
    }
  }
  ASSERT_GT(measured.size(), 5u);
  const auto seconds = [](const auto& named) { return named.second; };
  const std::string chosen =
      std::ranges::min_element(predicted, {}, seconds)->first;
  const auto fastest = std::ranges::min_element(measured, {}, seconds);
  // On two nodes the formula takes the slowest route for each hop.
  for (const auto& [name, clock] : measured) {
    if (machine.nodes() > 1) break;
    EXPECT_NEAR(predicted[name], clock, 0.01 * clock) << name;
  }
  EXPECT_LE(measured[chosen], 1.05 * fastest->second)
      << chosen << ", but " << fastest->first << " is faster";
  // Else any choice would pass.
  EXPECT_GT(std::ranges::max_element(measured, {}, seconds)->second,
            1.2 * fastest->second);
}

constexpr std::int64_t kSmall = 16 << 10;
constexpr std::int64_t kLarge = 4 << 20;
constexpr const char* kMesh = "mesh:ranks=8,rate=25e9,latency=5e-6";
constexpr const char* kSwitch = "switch:ranks=8,rate=450e9,latency=3e-6";
constexpr const char* kTwoNodes =
    "two_level:ranks=8,nodes=2,rate=450e9,nic=50e9,latency=3e-6,"
    "nic_latency=1e-5";

std::vector<Machine> machines() {
  std::vector<Machine> machines;
  for (const char* name : {kMesh, kSwitch, kTwoNodes}) {
    for (const std::int64_t bytes : {kSmall, kLarge}) {
      for (const bool causal : {true, false}) {
        machines.push_back({name, bytes, causal});
      }
    }
  }
  return machines;
}

INSTANTIATE_TEST_SUITE_P(Machines, StateExchangeChoice,
                         testing::ValuesIn(machines()));

}  // namespace
}  // namespace ringweave::cli
