#include "ringweave/sim/trace.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "ringweave/base/json.h"

namespace ringweave::sim {
namespace {

using topology::Topology;

// Groups of rows, in the order in which they are shown.
enum Group { kPass = 1, kCompute, kWaiting, kRates, kMessages };

constexpr std::pair<Group, const char*> kGroups[] = {
    {kPass, "pass"},
    {kCompute, "compute"},
    {kWaiting, "waiting"},
    {kRates, "bytes/s of links"},
    {kMessages, "messages on links"}};

struct TraceEvent {
  Group group = kPass;
  int row = 0;
  double start_seconds = 0;
  double end_seconds = 0;  ///< of kRates: not used
  std::string name;
  Json args;
};

/// One pass, and where it begins in the trace.
struct Part {
  const Timeline& timeline;
  double offset = 0;

  const char* pass() const { return schedule::name(timeline.pass); }
};

std::string block_name(const schedule::BlockId& block) {
  return fmt::format("block (owner {}, strand {})", block.owner, block.strand);
}

Json block_args(const Part& part, int step, const schedule::BlockId& block) {
  return {{"pass", part.pass()},
          {"step", step},
          {"owner", block.owner},
          {"strand", block.strand},
          {"part", block.part}};
}

std::string link_name(const Topology& topology, int index) {
  const topology::Link& link = topology.links()[index];
  return fmt::format("{} -> {}", topology.vertex(link.from).name,
                     topology.vertex(link.to).name);
}

/// Links by the vertex that they leave, then by the one that they enter.
std::vector<int> shown_order(const Topology& topology) {
  std::vector<int> order(topology.links().size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](int index) {
    const topology::Link& link = topology.links()[index];
    return std::pair(link.from, link.to);
  });
  return order;
}

/// Rows of links: on one row no two messages overlap.
class LinkRows {
 public:
  explicit LinkRows(std::size_t links) : rows_(links) {}

  /// The first row of `link` that is free at `start`; starts come in order.
  int take(int link, double start, double end) {
    for (Row& row : rows_[link]) {
      if (row.busy_until > start) continue;
      row.busy_until = end;
      return row.number;
    }
    rows_[link].push_back({count_, end});
    return count_++;
  }

  /// The numbers of a link's rows.
  std::vector<int> of(int link) const {
    std::vector<int> numbers;
    for (const Row& row : rows_[link]) numbers.push_back(row.number);
    return numbers;
  }

 private:
  struct Row {
    int number = 0;
    double busy_until = 0;
  };
  std::vector<std::vector<Row>> rows_;
  int count_ = 0;
};

void add_messages(const Part& part, const Topology& topology, LinkRows& rows,
                  std::vector<TraceEvent>& events) {
  std::vector<const MessageTimes*> messages;
  for (const MessageTimes& message : part.timeline.messages) {
    if (message.end_seconds != kNever) messages.push_back(&message);
  }
  std::ranges::stable_sort(messages, {}, &MessageTimes::start_seconds);
  std::vector<std::vector<std::vector<int>>> routes;
  for (Rank from = 0; from < topology.ranks(); ++from) {
    routes.push_back(topology.routes(from));
  }
  for (const MessageTimes* message : messages) {
    const schedule::Transfer& first = message->first;
    const double start = part.offset + message->start_seconds;
    const double end = part.offset + message->end_seconds;
    Json args = block_args(part, first.post_step, first.block);
    args["parts"] = message->parts;
    args["from"] = topology.vertex(first.from).name;
    args["to"] = topology.vertex(first.to).name;
    args[first.payload == schedule::Payload::summary ? "numbers" : "tokens"] =
        message->units;
    args["bytes"] = message->bytes;
    for (const int link : routes[first.from][first.to]) {
      events.push_back({kMessages, rows.take(link, start, end), start, end,
                        fmt::format("{} {}", schedule::name(first.payload),
                                    block_name(first.block)),
                        args});
    }
  }
}

/// Tiles that take no time are left out: viewers would nest them.
void add_ranks(const Part& part, std::vector<TraceEvent>& events) {
  for (const TileTimes& times : part.timeline.tiles) {
    const schedule::Tile& tile = times.tile;
    if (times.end_seconds == kNever ||
        times.end_seconds <= times.start_seconds) {
      continue;
    }
    Json args = block_args(part, tile.step, tile.block);
    args["tokens"] = times.units;
    events.push_back({kCompute, tile.rank, part.offset + times.start_seconds,
                      part.offset + times.end_seconds, block_name(tile.block),
                      std::move(args)});
  }
  for (const WaitTimes& wait : part.timeline.waits) {
    events.push_back({kWaiting,
                      wait.rank,
                      part.offset + wait.start_seconds,
                      part.offset + wait.end_seconds,
                      fmt::format("step {}", wait.step),
                      {{"pass", part.pass()}, {"step", wait.step}}});
  }
}

/// A counter has a name and no row. Names begin with the link's place, since
/// viewers sort them by name.
void add_rates(const Part& part, const Topology& topology,
               const std::vector<int>& order, std::vector<TraceEvent>& events) {
  if (part.timeline.rates.empty()) return;
  const std::size_t width = fmt::format("{}", order.size() - 1).size();
  for (std::size_t place = 0; place < order.size(); ++place) {
    for (const RateChange& change : part.timeline.rates[order[place]]) {
      const double start = part.offset + change.seconds;
      events.push_back({kRates,
                        0,
                        start,
                        start,
                        fmt::format("{:0{}} {}", place, width,
                                    link_name(topology, order[place])),
                        {{"bytes/s", change.bytes_per_second}}});
    }
  }
}

/// The last thing that happens at a time that is known.
double known_end(const Timeline& timeline) {
  double end = 0;
  const auto take = [&](double seconds) {
    if (seconds != kNever) end = std::max(end, seconds);
  };
  for (const TileTimes& tile : timeline.tiles) take(tile.end_seconds);
  for (const WaitTimes& wait : timeline.waits) take(wait.end_seconds);
  for (const MessageTimes& message : timeline.messages) {
    take(message.end_seconds);
  }
  for (const auto& changes : timeline.rates) {
    if (!changes.empty()) take(changes.back().seconds);
  }
  return end;
}

void add_pass(const Part& part, std::vector<TraceEvent>& events) {
  const bool ends = part.timeline.complete();
  const double seconds =
      ends ? part.timeline.seconds : known_end(part.timeline);
  events.push_back({kPass, 0, part.offset, part.offset + seconds,
                    fmt::format("{}{}", part.pass(), ends ? "" : ": no end"),
                    Json::object()});
}

std::string metadata(const char* what, Group group, int row, const char* key,
                     const Json& value) {
  return Json{{"ph", "M"},
              {"name", what},
              {"pid", static_cast<int>(group)},
              {"tid", row},
              {"args", {{key, value}}}}
      .dump();
}

void name_row(Group group, int row, int place, const std::string& name,
              std::vector<std::string>& lines) {
  lines.push_back(metadata("thread_name", group, row, "name", name));
  lines.push_back(
      metadata("thread_sort_index", group, row, "sort_index", place));
}

std::vector<std::string> rows_text(const Topology& topology,
                                   const std::vector<int>& order,
                                   const LinkRows& rows) {
  std::vector<std::string> lines;
  for (const auto& [group, name] : kGroups) {
    lines.push_back(metadata("process_name", group, 0, "name", name));
    lines.push_back(
        metadata("process_sort_index", group, 0, "sort_index", group));
  }
  name_row(kPass, 0, 0, "pass", lines);
  for (Rank rank = 0; rank < topology.ranks(); ++rank) {
    for (const Group group : {kCompute, kWaiting}) {
      name_row(group, rank, rank, topology.vertex(rank).name, lines);
    }
  }
  int place = 0;
  for (const int link : order) {
    int number = 0;
    for (const int row : rows.of(link)) {
      const std::string name = link_name(topology, link);
      name_row(kMessages, row, place++,
               ++number == 1 ? name : fmt::format("{} ({})", name, number),
               lines);
    }
  }
  return lines;
}

std::string event_text(const TraceEvent& event) {
  const double start = event.start_seconds * 1e6;
  const bool counts = event.group == kRates;
  Json json = {{"ph", counts ? "C" : "X"},
               {"name", event.name},
               {"pid", static_cast<int>(event.group)},
               {"tid", event.row},
               {"ts", start}};
  if (!counts) {
    json["dur"] = std::max(0.0, event.end_seconds * 1e6 - start);
  }
  if (!event.args.empty()) json["args"] = event.args;
  return json.dump();
}

}  // namespace

std::string chrome_trace(const std::vector<Timeline>& passes,
                         const Topology& topology) {
  std::vector<TraceEvent> events;
  const std::vector<int> order = shown_order(topology);
  LinkRows rows(topology.links().size());
  double offset = 0;
  for (const Timeline& timeline : passes) {
    const Part part{timeline, offset};
    add_pass(part, events);
    add_ranks(part, events);
    add_rates(part, topology, order, events);
    add_messages(part, topology, rows, events);
    if (!timeline.complete()) break;
    offset += timeline.seconds;
  }
  std::ranges::stable_sort(events, {}, &TraceEvent::start_seconds);

  std::vector<std::string> lines = rows_text(topology, order, rows);
  for (const TraceEvent& event : events) lines.push_back(event_text(event));
  return fmt::format(
      "{{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n{}\n]}}\n",
      fmt::join(lines, ",\n"));
}

}  // namespace ringweave::sim
