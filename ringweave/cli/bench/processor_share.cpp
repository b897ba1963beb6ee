#include "ringweave/cli/bench/processor_share.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <map>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "ringweave/comm/all_gather_json.h"

namespace ringweave::cli {
namespace {

double processor_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

}  // namespace

std::string busy_note() {
  return fmt::format(
      "! more than {:.0f} % of the cores: the processor may be what was "
      "measured\n",
      100 * kBusy);
}

ProcessorTime::ProcessorTime()
    : start_(comm::Clock::now()), processor_seconds_(processor_seconds()) {}

ProcessorTime::Spent ProcessorTime::spent() const {
  const double worked = processor_seconds() - processor_seconds_;
  const std::chrono::duration<double> seconds = comm::Clock::now() - start_;
  const double cores = std::max(1u, std::thread::hardware_concurrency());
  return {.seconds = seconds.count(),
          .share = std::min(1.0, worked / seconds.count() / cores)};
}

double busiest_share(double mine, bool processes,
                     comm::Communicator& communicator) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  std::map<std::string, double> shares;  // by host
  for (const Json& theirs :
       comm::all_gather_json({mine, std::string(host.data())}, communicator)) {
    double& share = shares[theirs[1].get<std::string>()];
    const auto more = theirs[0].get<double>();
    share = processes ? share + more : std::max(share, more);
  }
  return std::ranges::max_element(
             shares, {},
             [](const auto& host_share) { return host_share.second; })
      ->second;
}

}  // namespace ringweave::cli
