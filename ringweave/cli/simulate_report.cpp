#include "ringweave/cli/simulate_report.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

/// Links that are listed by name.
constexpr std::size_t kBusiest = 5;

/// Stands where there is no figure.
constexpr const char* kNoFigure = "–";

/// A figure of a pass; null if it never ended, when there is none.
Json figure(const sim::Timeline& timeline, double value) {
  return timeline.complete() ? Json(value) : Json(nullptr);
}

std::string time_or_none(const Json& seconds) {
  return seconds.is_null() ? kNoFigure : time_text(seconds.get<double>());
}

std::string percent_text(const Json& share) {
  return share.is_null() ? kNoFigure
                         : fmt::format("{:.1f} %", 100 * share.get<double>());
}

Json classes_json(const sim::Timeline& timeline,
                  const topology::Topology& topology) {
  Json classes = Json::array();
  for (const auto& use : sim::link_class_use(timeline.links, topology)) {
    classes.push_back(
        {{"class", use.link_class},
         {"links", use.links},
         {"bytes", use.bytes},
         {"busiest_bytes", use.busiest_bytes},
         {"utilisation", figure(timeline, use.utilisation)},
         {"busiest_utilisation", figure(timeline, use.busiest_utilisation)}});
  }
  return classes;
}

Json busiest_json(const sim::Timeline& timeline,
                  const topology::Topology& topology) {
  auto links = timeline.links;
  std::erase_if(links,
                [](const sim::LinkUse& use) { return use.messages == 0; });
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
                       {"utilisation", figure(timeline, use.utilisation)}});
  }
  return busiest;
}

}  // namespace

Json to_json(const sim::Timeline& timeline, const topology::Topology& topology,
             schedule::Pass pass, double transfer_bound) {
  double compute = 0;
  for (const sim::RankTimes& rank : timeline.ranks) {
    compute = std::max(compute, rank.compute_seconds);
  }
  Json stuck = Json::array();
  for (const sim::Stuck& one : timeline.stuck) stuck.push_back(one.text);
  const double bound = std::max(transfer_bound, compute);
  return {{"pass", schedule::name(pass)},
          {"seconds", figure(timeline, timeline.seconds)},
          {"transfer_bound_seconds", transfer_bound},
          {"ratio", bound > 0 ? figure(timeline, timeline.seconds / bound)
                              : Json(nullptr)},
          {"compute_seconds", figure(timeline, compute)},
          {"exposed_seconds", figure(timeline, timeline.exposed_seconds())},
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
    text += fmt::format("{}\n", time_or_none(pass["seconds"]));
  }
  text += fmt::format("  bound of transfers    {}\n",
                      time_or_none(pass["transfer_bound_seconds"]));
  text += fmt::format("  compute, busiest rank {}\n",
                      time_or_none(pass["compute_seconds"]));
  if (!pass["ratio"].is_null()) {
    text += fmt::format("  time / larger of both {:.4f}\n",
                        pass["ratio"].get<double>());
  }
  text += fmt::format(
      "  exposed communication {}{}\n", time_or_none(pass["exposed_seconds"]),
      pass["exposed_seconds"].is_null() ? "" : ", mean of the ranks");
  for (const Json& use : pass["link_classes"]) {
    text += fmt::format(
        "  {} links of class {}: {} bytes, {} on the busiest; used {}, "
        "the busiest {}\n",
        use["links"].get<int>(), use["class"].get<std::string>(),
        use["bytes"].get<std::int64_t>(),
        use["busiest_bytes"].get<std::int64_t>(),
        percent_text(use["utilisation"]),
        percent_text(use["busiest_utilisation"]));
  }
  if (!pass["busiest_links"].empty()) text += "  busiest links:\n";
  for (const Json& use : pass["busiest_links"]) {
    text += fmt::format(
        "    {} -> {}: {} bytes, busy {}\n", use["from"].get<std::string>(),
        use["to"].get<std::string>(), use["bytes"].get<std::int64_t>(),
        time_or_none(use["busy_seconds"]));
  }
  return text;
}

}  // namespace ringweave::cli
