// ringweave topology show, topology list: what a machine is made of, as text,
// JSON, or a drawing by Graphviz.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/output_file.h"
#include "ringweave/discovery/machine_table.h"
#include "ringweave/topology/builtin.h"
#include "ringweave/topology/topology_file.h"

extern char** environ;

namespace ringweave::cli {
namespace {

constexpr const char* kShowWhere = "[topology show]";

using topology::Link;
using topology::Topology;
using topology::VertexKind;

/// Beyond this many ranks only rank 0's routes are listed: all of them take
/// time in ranks · links.
constexpr int kMaxRoutesOfAll = 128;

std::string gigabytes(double bytes_per_second) {
  return fmt::format("{:.9g} GB/s", bytes_per_second / 1e9);
}

std::string microseconds(double seconds) {
  return fmt::format("{:.6g} us", seconds * 1e6);
}

int count(const Topology& topology, VertexKind kind) {
  int found = 0;
  for (int v = 0; v < topology.vertices(); ++v) {
    found += topology.vertex(v).kind == kind ? 1 : 0;
  }
  return found;
}

std::string counted(int number, const char* noun, const char* plural = "s") {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : plural);
}

/// Links of half duplex share a capacity, which counts once.
struct LinkClass {
  int links = 0;
  double total = 0;
};

std::string links_table(const Topology& topology) {
  std::map<std::tuple<std::string, double, double>, LinkClass> classes;
  std::vector<int> shared;
  double total = 0;
  for (const Link& link : topology.links()) {
    LinkClass& found =
        classes[{link.link_class, link.bytes_per_second, link.latency_seconds}];
    ++found.links;
    const bool counted =
        std::find(shared.begin(), shared.end(), link.shared) != shared.end();
    if (link.shared >= 0) shared.push_back(link.shared);
    if (link.shared >= 0 && counted) continue;
    found.total += link.bytes_per_second;
    total += link.bytes_per_second;
  }
  std::string text = fmt::format("{:<12}{:>8}{:>16}{:>12}{:>18}\n", "class",
                                 "links", "rate of one", "latency", "total");
  for (const auto& [key, of] : classes) {
    const auto& [name, rate, latency] = key;
    text += fmt::format("{:<12}{:>8}{:>16}{:>12}{:>18}\n", name, of.links,
                        gigabytes(rate), microseconds(latency),
                        gigabytes(of.total));
  }
  return text + fmt::format("{:<12}{:>8}{:>16}{:>12}{:>18}\n", "all",
                            topology.links().size(), "", "", gigabytes(total));
}

std::string out_rates(const Topology& topology) {
  double least = 0;
  double most = 0;
  for (Rank rank = 0; rank < topology.ranks(); ++rank) {
    double sum = 0;
    for (const int link : topology.outgoing(rank)) {
      sum += topology.links()[link].bytes_per_second;
    }
    least = rank == 0 ? sum : std::min(least, sum);
    most = std::max(most, sum);
  }
  return "out of each rank: " +
         (least == most ? gigabytes(least)
                        : gigabytes(least) + " to " + gigabytes(most)) +
         "\n";
}

/// The classes that a route passes, and how fast it is at best.
std::string kind_of(const Topology& topology, const std::vector<int>& route) {
  if (route.empty()) return "no route";
  std::vector<std::string> classes;
  double narrowest = topology.links()[route.front()].bytes_per_second;
  for (const int index : route) {
    const Link& link = topology.links()[index];
    classes.push_back(link.link_class);
    narrowest = std::min(narrowest, link.bytes_per_second);
  }
  return fmt::format("{}, {}", fmt::join(classes, " > "), gigabytes(narrowest));
}

std::string shown(const Topology& topology, Rank from, Rank to,
                  const std::vector<int>& route) {
  std::string text = topology.vertex(from).name;
  if (route.empty()) return text + ", " + topology.vertex(to).name;
  for (const int index : route) {
    text += " > " + topology.vertex(topology.links()[index].to).name;
  }
  return text;
}

std::string routes_table(const Topology& topology) {
  struct Kind {
    int pairs = 0;
    std::string example;
  };
  std::map<std::pair<std::size_t, std::string>, Kind> kinds;
  const bool all = topology.ranks() <= kMaxRoutesOfAll;
  for (Rank from = 0; from < (all ? topology.ranks() : 1); ++from) {
    const auto routes = topology.routes(from);
    for (Rank to = 0; to < topology.ranks(); ++to) {
      if (to == from) continue;
      Kind& kind = kinds[{routes[to].size(), kind_of(topology, routes[to])}];
      if (kind.pairs++ == 0) {
        kind.example = shown(topology, from, to, routes[to]);
      }
    }
  }
  std::string text = all ? "routes\n" : "routes of rank 0\n";
  for (const auto& [key, kind] : kinds) {
    text += fmt::format("{:>16}: {}; {}\n", counted(kind.pairs, "pair"),
                        key.second, kind.example);
  }
  return kinds.empty() ? "" : text;
}

std::string description(const Topology& topology) {
  std::string text = topology.name() + "\n";
  if (!topology.source().empty()) text += topology.source() + "\n";
  text += fmt::format(
      "\n{}, {}, {}, {}, {}{}\n\n", counted(topology.ranks(), "rank"),
      counted(topology.nodes(), "node"),
      counted(count(topology, VertexKind::switch_), "switch", "es"),
      counted(count(topology, VertexKind::nic), "NIC"),
      counted(count(topology, VertexKind::host), "host"),
      topology.ranks_forward() ? "; ranks pass traffic on" : "");
  return text + links_table(topology) + "\n" + out_rates(topology) +
         routes_table(topology);
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

const char* shape(VertexKind kind) {
  switch (kind) {
    case VertexKind::rank:
      return "box";
    case VertexKind::switch_:
      return "ellipse";
    case VertexKind::nic:
      return "hexagon";
    case VertexKind::host:
      return "house";
  }
  throw InternalError("bug in ringweave: a vertex of no kind");
}

/// One edge for both directions of a cable, an arrow for a single one.
std::string dot(const Topology& topology) {
  const bool flat = topology.vertices() == topology.ranks();
  std::string text =
      fmt::format("digraph {} {{\n  layout={};\n  overlap=false;\n",
                  quoted(topology.name()), flat ? "circo" : "dot");
  for (int v = 0; v < topology.vertices(); ++v) {
    text += fmt::format("  {} [shape={}];\n", quoted(topology.vertex(v).name),
                        shape(topology.vertex(v).kind));
  }
  for (const Link& link : topology.links()) {
    const auto back = topology.link(link.to, link.from);
    const bool both =
        back &&
        topology.links()[*back].bytes_per_second == link.bytes_per_second &&
        topology.links()[*back].link_class == link.link_class;
    if (both && link.from > link.to) continue;
    text += fmt::format(
        "  {} -> {} [label={}{}];\n", quoted(topology.vertex(link.from).name),
        quoted(topology.vertex(link.to).name),
        quoted(link.link_class + " " + gigabytes(link.bytes_per_second)),
        both ? ", dir=none" : "");
  }
  return text + "}\n";
}

/// Runs Graphviz, which reads `drawing` from an unnamed file.
void draw_svg(const std::string& drawing, const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> input(std::tmpfile(),
                                                              std::fclose);
  if (!input || std::fputs(drawing.c_str(), input.get()) < 0 ||
      std::fflush(input.get()) != 0) {
    throw Error("[topology show] no temporary file could be written");
  }
  std::rewind(input.get());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(input.get()), STDIN_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
                                   O_WRONLY, 0);
  std::string words[] = {"dot", "-Tsvg", "-o", path};
  char* arguments[] = {words[0].data(), words[1].data(), words[2].data(),
                       words[3].data(), nullptr};
  pid_t child = 0;
  const int failed =
      posix_spawnp(&child, "dot", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  require(failed == 0,
          "[topology show] found no program dot; --svg wants Graphviz "
          "installed, --dot prints what it would draw");
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Error(
        fmt::format("{} Graphviz could not write {}", kShowWhere, path));
  }
}

std::string list(const std::vector<topology::BuiltinName>& names) {
  std::string text;
  for (const auto& name : names) {
    text += fmt::format("{}:{}\n    {}\n", name.name, name.options,
                        name.description);
    if (!name.source.empty()) text += "    " + name.source + "\n";
  }
  return text;
}

Json list_json(const std::vector<topology::BuiltinName>& names) {
  Json all = Json::array();
  for (const auto& name : names) {
    all.push_back({{"name", name.name},
                   {"options", name.options},
                   {"description", name.description},
                   {"source", name.source}});
  }
  return all;
}

void print_list(bool json) {
  const auto names = topology::builtin_names();
  fmt::print("{}", json ? list_json(names).dump(2) + "\n" : list(names));
}

struct ShowOptions {
  std::string name;
  std::string from = "auto";
  std::vector<std::string> rates;
  bool json = false;
  bool dot = false;
  std::string svg;
  std::string save;
};

discovery::ClassRates parse_rates(const std::vector<std::string>& texts) {
  discovery::ClassRates rates;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    double rate = 0;
    bool good = equals != std::string::npos;
    if (good) {
      const char* end = text.data() + text.size();
      const auto [stop, error] =
          std::from_chars(text.data() + equals + 1, end, rate);
      good = error == std::errc() && stop == end;
    }
    require(good,
            "[topology show] got --rate {}; want CLASS=B/s, such as "
            "NV18=450e9",
            text);
    require(rates.emplace(text.substr(0, equals), rate).second,
            "[topology show] got --rate {} twice; want a class once",
            text.substr(0, equals));
  }
  return rates;
}

discovery::TableKind kind_named(const std::string& word) {
  for (const auto kind :
       {discovery::TableKind::nvidia_smi, discovery::TableKind::rocm_smi}) {
    if (word == discovery::name(kind)) return kind;
  }
  return discovery::TableKind::none;
}

Topology load(const ShowOptions& options) {
  require(!options.name.empty(),
          "[topology show] got no NAME|FILE; `topology list` names what is "
          "built in");
  return discovery::load_machine(options.name, kind_named(options.from),
                                 parse_rates(options.rates));
}

void check_files(const ShowOptions& options) {
  if (!options.save.empty()) check_writable(options.save, "--save", kShowWhere);
  if (!options.svg.empty()) check_writable(options.svg, "--svg", kShowWhere);
}

void show(const ShowOptions& options, const Topology& topology) {
  if (!options.save.empty()) {
    write_file(options.save, to_json(topology).dump(2) + "\n", kShowWhere);
    fmt::print(stderr, "wrote {}\n", options.save);
  }
  if (!options.svg.empty()) draw_svg(dot(topology), options.svg);
  if (options.json) {
    fmt::print("{}\n", to_json(topology).dump(2));
  } else if (options.dot) {
    fmt::print("{}", dot(topology));
  } else {
    fmt::print("{}", description(topology));
  }
}

}  // namespace

void add_topology_show(CLI::App& topology, Context& context) {
  CLI::App* command = topology.add_subcommand(
      "show", "Print or draw a machine: ranks, links, rates, routes");
  auto options = std::make_shared<ShowOptions>();
  CLI::Option* name =
      command
          ->add_option("topology", options->name,
                       "A built-in with its options, or a file; without it: "
                       "what is built in")
          ->type_name("NAME|FILE");
  CLI::Option* from =
      command
          ->add_option("--from", options->from,
                       "FILE is a table that `nvidia-smi topo -m` or `rocm-smi "
                       "--showtopo` printed; auto tells which, from a topology "
                       "file too")
          ->check(one_of({"auto", "nvidia-smi", "rocm-smi"}))
          ->capture_default_str();
  command
      ->add_option("--rate", options->rates,
                   "Bytes per second of a class of links of such a table; NV: "
                   "of one NVLink")
      ->type_name("CLASS=B/s");
  auto* json =
      command->add_flag("--json", options->json, "Print the topology file");
  command->add_flag("--dot", options->dot, "Print Graphviz DOT")
      ->excludes(json);
  command->add_option("--svg", options->svg, "Draw it by Graphviz")
      ->type_name("FILE");
  command->add_option("--save", options->save, "Write the topology file")
      ->type_name("FILE");
  command->callback([&context, options, name, from] {
    const bool lists = name->empty() && from->empty() &&
                       options->rates.empty() && !options->dot &&
                       options->svg.empty() && options->save.empty();
    if (lists) {
      context.job = [&context, options] {
        if (context.leads()) print_list(options->json);
      };
      return;
    }
    const auto topology = std::make_shared<Topology>(load(*options));
    if (context.leads()) check_files(*options);
    context.job = [&context, options, topology] {
      if (context.leads()) show(*options, *topology);
    };
  });

  CLI::App* names = topology.add_subcommand(
      "list", "List the built-in topologies, with the source of their figures");
  auto as_json = std::make_shared<bool>(false);
  names->add_flag("--json", *as_json, "Print it as JSON");
  names->callback([&context, as_json] {
    context.job = [&context, as_json] {
      if (context.leads()) print_list(*as_json);
    };
  });
}

}  // namespace ringweave::cli
