// ringweave topology probe: measures the links between the ranks it runs on,
// and says what machine they are, or what the links of a known one give.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/output_file.h"
#include "ringweave/discovery/classify.h"
#include "ringweave/discovery/frame.h"
#include "ringweave/discovery/machine_table.h"
#include "ringweave/discovery/probe.h"
#include "ringweave/emulation/emulated_links.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

using discovery::Classification;
using discovery::Measurements;

constexpr const char* kProbeWhere = "[topology probe]";
constexpr int kRanks = 4;

struct ProbeFlags {
  std::optional<int> ranks;
  std::string emulate;
  std::string frame;
  std::string save;
  bool json = false;
  discovery::ProbeOptions options;
};

/// Where the figures come from, and when.
struct Origin {
  std::string engine;
  std::string date;
};

std::string utc_now() {
  const auto now = std::chrono::floor<std::chrono::seconds>(
      std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", now);
}

Json file_of(const Classification& found, const Origin& origin) {
  Json json = to_json(found.topology);
  json["measured"]["engine"] = origin.engine;
  json["measured"]["date"] = origin.date;
  return json;
}

/// Per kind of pattern, in the order measured, the largest messages' figures.
std::string table(const Measurements& numbers) {
  std::vector<std::string> kinds;
  std::map<std::string, std::vector<discovery::Figure>> figures;
  for (const auto& timed : numbers.patterns) {
    const std::string& kind = timed.pattern.kind;
    if (!figures.contains(kind)) kinds.push_back(kind);
    figures[kind].push_back(timed.seconds.back());
  }
  const auto bytes = static_cast<double>(numbers.sizes.back());
  std::string text = fmt::format(
      "GB/s of each pair, messages of {} bytes, {} round{}\n\n"
      "{:<16}{:>10}{:>12}{:>12}{:>12}{:>10}\n",
      numbers.sizes.back(), numbers.rounds, numbers.rounds == 1 ? "" : "s",
      "at the same time", "patterns", "slowest", "median", "fastest", "spread");
  for (const std::string& kind : kinds) {
    std::vector<double> rates;
    double spread = 1;
    for (const discovery::Figure& figure : figures[kind]) {
      rates.push_back(bytes / figure.median / 1e9);
      spread = std::max(spread, figure.high / figure.low);
    }
    const auto [least, most] = std::ranges::minmax(rates);
    text += fmt::format("{:<16}{:>10}{:>12.4g}{:>12.4g}{:>12.4g}{:>10.2f}\n",
                        kind, rates.size(), least,
                        discovery::figure_of(rates).median, most, spread);
  }
  return text;
}

std::string summary(const Measurements& numbers, const Classification& found) {
  return fmt::format("{}\n{}: {}\n", table(numbers), found.topology.name(),
                     found.reason);
}

/// The result of this process's first rank, as of any.
Measurements probe_on(const comm::Engine& engine, int ranks,
                      const discovery::ProbeOptions& options) {
  Measurements numbers;
  engine.run(ranks, {}, [&](comm::Communicator& communicator) {
    Measurements mine = discovery::probe(communicator, options);
    if (communicator.rank() == engine.rank()) numbers = std::move(mine);
  });
  return numbers;
}

using Frame = std::optional<topology::Topology>;

void probe_job(ProbeFlags flags, int ranks, const comm::Engine& engine,
               const Frame& frame, const Context& context) {
  flags.options.poll = check_interrupted;
  flags.options.note = [](const std::string& text) {
    fmt::print(stderr, "{}\n", text);
  };
  Origin origin{.engine = "ranks as threads of one process", .date = utc_now()};
  if (engine.is_group()) origin.engine = "process group";
  if (!flags.emulate.empty()) origin.engine = "emulated " + flags.emulate;
  const Measurements numbers = probe_on(engine, ranks, flags.options);
  if (!context.leads()) return;
  const Classification found =
      frame ? fit_frame(numbers, *frame) : classify(numbers);
  const std::string file = file_of(found, origin).dump(2) + "\n";
  if (!flags.save.empty()) {
    write_file(flags.save, file, kProbeWhere);
  }
  fmt::print("{}", flags.json ? file : summary(numbers, found));
}

/// The ranks of `links`, as threads.
comm::Engine emulated(const topology::Topology& links) {
  return comm::Engine([links](comm::Transports ranks) {
    return emulation::emulated_links(std::move(ranks), links);
  });
}

void prepare(const ProbeFlags& flags, Context& context) {
  const bool group = context.engine.is_group();
  comm::Engine engine = context.engine;
  int ranks = kRanks;
  if (!flags.emulate.empty()) {
    require(!group,
            "[topology probe] got --emulate in a group of processes; want it "
            "without a launcher");
    const topology::Topology links = topology::load_topology(flags.emulate);
    engine = emulated(links);
    ranks = links.ranks();
    require(!flags.ranks || *flags.ranks == ranks,
            "[topology probe] got --ranks {} for {} ranks of {}; want {} or no "
            "--ranks",
            flags.ranks.value_or(0), ranks, flags.emulate, ranks);
  }
  Frame frame;
  if (!flags.frame.empty()) {
    frame = discovery::load_machine(flags.frame);
    if (flags.emulate.empty()) ranks = frame->ranks();
  }
  ranks = context.ranks(flags.ranks, ranks, kProbeWhere);
  require(!frame || frame->ranks() == ranks,
          "[topology probe] got --frame {} of {} rank{} for {} that measure; "
          "want as many",
          flags.frame, frame ? frame->ranks() : 0,
          frame && frame->ranks() == 1 ? "" : "s", ranks);
  check(flags.options, ranks);
  const std::int64_t most =
      discovery::kMaxProbeBufferBytes / (std::int64_t{ranks} * (ranks - 1));
  const std::int64_t largest = std::ranges::max(flags.options.sizes);
  require(group || largest <= most,
          "[topology probe] got messages of {} bytes for {} ranks in one "
          "process; want at most {}",
          largest, ranks, most);
  if (context.leads() && !flags.save.empty()) {
    check_writable(flags.save, "--save", kProbeWhere);
  }
  context.facts = {
      {"command", "topology probe"},
      {"options", fmt::format("sizes {}, repeat {}, seconds {}",
                              fmt::join(flags.options.sizes, ","),
                              flags.options.repeats, flags.options.seconds)}};
  context.job = [flags, ranks, engine, frame, &context] {
    probe_job(flags, ranks, engine, frame, context);
  };
}

}  // namespace

void add_topology_probe(CLI::App& topology, Context& context) {
  CLI::App* command = topology.add_subcommand(
      "probe",
      "Measure latency and bandwidth between the ranks it runs on, alone and "
      "at the same time, and tell mesh, switch and two levels apart");
  auto flags = std::make_shared<ProbeFlags>();
  command
      ->add_option("--ranks", flags->ranks,
                   fmt::format("Ranks, as threads of this process (default {}; "
                               "under torchrun: the number of processes)",
                               kRanks))
      ->type_name("N");
  command
      ->add_option("--sizes", flags->options.sizes,
                   "Bytes of a message, comma-separated; the largest tells the "
                   "rate")
      ->type_name("BYTES")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--repeat", flags->options.repeats,
                   "Rounds at most; fewer than 3 tell no spread")
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--seconds", flags->options.seconds,
                   "Rounds that would not end within this are left out")
      ->type_name("LIMIT")
      ->capture_default_str();
  command
      ->add_option("--emulate", flags->emulate,
                   "Rehearse: local ranks whose messages take the time that "
                   "this topology needs for them, by a clock of its own")
      ->type_name("NAME|FILE");
  command
      ->add_option("--frame", flags->frame,
                   "Fit rates to the links of this machine, a rank for each "
                   "GPU, instead of telling what it is: what nvidia-smi or "
                   "rocm-smi printed, a topology file or a built-in")
      ->type_name("NAME|FILE");
  command->add_option("--save", flags->save, "Write the topology file")
      ->type_name("FILE");
  command->add_flag("--json", flags->json, "Print the topology file");
  command->callback([flags, &context] { prepare(*flags, context); });
}

}  // namespace ringweave::cli
