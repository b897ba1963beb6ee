#include "ringweave/cli/simulate_report.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>

#include <fmt/format.h>

namespace ringweave::cli {
namespace {

/// Links that are listed by name.
constexpr std::size_t kBusiest = 5;

Json time_or_null(double seconds) {
  return std::isfinite(seconds) ? Json(seconds) : Json(nullptr);
}

Json classes_json(const sim::Timeline& timeline,
                  const topology::Topology& topology) {
  Json classes = Json::array();
  for (const auto& use : sim::link_class_use(timeline.links, topology)) {
    classes.push_back({{"class", use.link_class},
                       {"links", use.links},
                       {"bytes", use.bytes},
                       {"busiest_bytes", use.busiest_bytes},
                       {"utilisation", use.utilisation},
                       {"busiest_utilisation", use.busiest_utilisation}});
  }
  return classes;
}

Json busiest_json(const sim::Timeline& timeline,
                  const topology::Topology& topology) {
  auto links = timeline.links;
  std::ranges::stable_sort(links, std::ranges::greater(),
                           &sim::LinkUse::busy_seconds);
  links.resize(std::min(links.size(), kBusiest));
  Json busiest = Json::array();
  for (const sim::LinkUse& use : links) {
    const topology::Link& link = topology.links()[use.link];
    busiest.push_back({{"from", topology.vertex(link.from).name},
                       {"to", topology.vertex(link.to).name},
                       {"messages", use.messages},
                       {"bytes", use.bytes},
                       {"busy_seconds", use.busy_seconds},
                       {"utilisation", use.utilisation}});
  }
  return busiest;
}

}  // namespace

Json to_json(const sim::Timeline& timeline, const topology::Topology& topology,
             plan::Pass pass, double transfer_bound) {
  double compute = 0;
  for (const sim::RankTimes& rank : timeline.ranks) {
    compute = std::max(compute, rank.compute_seconds);
  }
  Json stuck = Json::array();
  for (const sim::Stuck& one : timeline.stuck) stuck.push_back(one.text);
  const double bound = std::max(transfer_bound, compute);
  return {{"pass", plan::name(pass)},
          {"seconds", time_or_null(timeline.seconds)},
          {"transfer_bound_seconds", transfer_bound},
          {"ratio",
           bound > 0 ? time_or_null(timeline.seconds / bound) : Json(nullptr)},
          {"compute_seconds", compute},
          {"exposed_seconds", timeline.exposed_seconds()},
          {"messages", timeline.messages.size()},
          {"link_classes", classes_json(timeline, topology)},
          {"busiest_links", busiest_json(timeline, topology)},
          {"stuck", std::move(stuck)}};
}

std::string pass_text(const Json& pass) {
  std::string text = fmt::format("\n{}: ", pass["pass"].get<std::string>());
  if (pass["seconds"].is_null()) {
    text += "never ends\n";
    for (const auto& line : pass["stuck"]) {
      text += fmt::format("  {}\n", line.get<std::string>());
    }
  } else {
    text += fmt::format("{:.6g} s\n", pass["seconds"].get<double>());
  }
  text += fmt::format("  bound of transfers    {:.6g} s\n",
                      pass["transfer_bound_seconds"].get<double>());
  text += fmt::format("  compute, busiest rank {:.6g} s\n",
                      pass["compute_seconds"].get<double>());
  if (!pass["ratio"].is_null()) {
    text += fmt::format("  time / larger of both {:.4f}\n",
                        pass["ratio"].get<double>());
  }
  text += fmt::format("  exposed communication {:.6g} s, mean of the ranks\n",
                      pass["exposed_seconds"].get<double>());
  for (const Json& use : pass["link_classes"]) {
    text += fmt::format(
        "  {} links of class {}: {} bytes, {} on the busiest; used {:.1f} %, "
        "the busiest {:.1f} %\n",
        use["links"].get<int>(), use["class"].get<std::string>(),
        use["bytes"].get<std::int64_t>(),
        use["busiest_bytes"].get<std::int64_t>(),
        100 * use["utilisation"].get<double>(),
        100 * use["busiest_utilisation"].get<double>());
  }
  text += "  busiest links:\n";
  for (const Json& use : pass["busiest_links"]) {
    text += fmt::format(
        "    {} -> {}: {} bytes, busy {:.6g} s\n",
        use["from"].get<std::string>(), use["to"].get<std::string>(),
        use["bytes"].get<std::int64_t>(), use["busy_seconds"].get<double>());
  }
  return text;
}

}  // namespace ringweave::cli
