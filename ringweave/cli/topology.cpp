// ringweave topology, and topology decompose: how the blocks of n ranks travel
// so that every link of a full mesh is busy in every step.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/command.h"
#include "ringweave/schedule/strategy/walks.h"

namespace ringweave::cli {
namespace {

/// The output grows with ranks³: a gigabyte of text near 500.
constexpr int kMaxShownRanks = 128;

using Walks = std::vector<std::vector<std::vector<int>>>;

std::string join(const std::vector<int>& ranks) {
  return fmt::format("{}", fmt::join(ranks, " "));
}

/// How often the busiest and the idlest directed link is used in a step,
/// counted over all steps from the walks themselves.
struct LinkUse {
  int least = 0;
  int most = 0;
};

LinkUse count_link_use(const Walks& walks, int ranks) {
  LinkUse use{.least = static_cast<int>(walks.size()) * ranks, .most = 0};
  for (int step = 1; step < ranks; ++step) {
    std::vector<int> count(static_cast<std::size_t>(ranks) * ranks, 0);
    for (const auto& strand : walks) {
      for (const auto& walk : strand) {
        ++count[walk[step - 1] * ranks + walk[step]];
      }
    }
    for (int link = 0; link < ranks * ranks; ++link) {
      if (link / ranks == link % ranks) continue;
      use.least = std::min(use.least, count[link]);
      use.most = std::max(use.most, count[link]);
    }
  }
  return use;
}

std::string table(const Json& decomposition) {
  const int ranks = decomposition["ranks"];
  const auto walks = decomposition["walks"].get<Walks>();
  const bool cycles = decomposition["kind"] == "cycles";
  std::string text = fmt::format(
      "{} ranks, {} directed links, {} {}\n\n", ranks, ranks * (ranks - 1),
      walks.size(),
      cycles ? "Hamiltonian cycles that share no link"
             : "time-varying walks: no set of link-disjoint Hamiltonian "
               "cycles exists");
  if (cycles) {
    int number = 0;
    for (const auto& order : decomposition["cycles"]) {
      text += fmt::format("cycle {:>3}: {}\n", number++,
                          join(order.get<std::vector<int>>()));
    }
  } else {
    for (std::size_t strand = 0; strand < walks.size(); ++strand) {
      text += fmt::format("strand {}\n", strand);
      for (int owner = 0; owner < ranks; ++owner) {
        text += fmt::format("  block of rank {:>3}: {}\n", owner,
                            join(walks[strand][owner]));
      }
    }
  }
  const LinkUse use = count_link_use(walks, ranks);
  text += fmt::format(
      "\ncertificate: in each of the {} steps every directed link carries {} "
      "block strand{}{}\n",
      ranks - 1, use.least, use.least == 1 ? "" : "s",
      use.least == use.most ? "" : fmt::format(" to {}", use.most));
  return text;
}

void add_topology_decompose(CLI::App& topology, Context& context) {
  CLI::App* decompose = topology.add_subcommand(
      "decompose",
      "Split the links of a full mesh into Hamiltonian cycles that share none "
      "(time-varying walks where no cycles exist)");
  auto ranks = std::make_shared<int>(0);
  auto json = std::make_shared<bool>(false);
  decompose->add_option("--ranks", *ranks, "Number of ranks, 2 to 128")
      ->required()
      ->type_name("N");
  decompose->add_flag(
      "--json", *json,
      "Print {ranks, kind, cycles, walks[strand][owner][step]}");
  decompose->callback([&context, ranks, json] {
    require(*ranks >= 2 && *ranks <= kMaxShownRanks,
            "[topology decompose] got {} ranks; want 2 to {}", *ranks,
            kMaxShownRanks);
    context.job = [&context, ranks, json] {
      const Json decomposition = schedule::decomposition_json(*ranks);
      if (!context.leads()) return;
      fmt::print("{}",
                 *json ? decomposition.dump() + "\n" : table(decomposition));
    };
  });
}

}  // namespace

void add_topology(CLI::App& app, Context& context) {
  CLI::App* topology =
      app.add_subcommand("topology", "Links between ranks, and their use");
  topology->require_subcommand(1);
  add_topology_show(*topology, context);
  add_topology_probe(*topology, context);
  add_topology_decompose(*topology, context);
}

}  // namespace ringweave::cli
