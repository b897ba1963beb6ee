#include "ringweave/sim/trace.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "ringweave/base/json.h"

namespace ringweave::sim {
namespace {

// Groups of rows, in the order in which they are shown.
constexpr int kCompute = 1;
constexpr int kWaiting = 2;
constexpr int kLinks = 3;

struct Event {
  int group = 0;
  int row = 0;
  double start_seconds = 0;
  double end_seconds = 0;
  std::string name;
};

std::string block_name(const plan::BlockId& block) {
  return fmt::format("block (owner {}, strand {})", block.owner, block.strand);
}

/// Rows of links: on one row no two events overlap.
class LinkRows {
 public:
  explicit LinkRows(int links) : rows_(links) {}

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

  /// (number, name) of all rows, link by link.
  std::vector<std::pair<int, std::string>> names(
      const topology::Topology& topology) const {
    std::vector<std::pair<int, std::string>> result;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const topology::Link& link = topology.links()[i];
      for (std::size_t k = 0; k < rows_[i].size(); ++k) {
        result.emplace_back(
            rows_[i][k].number,
            fmt::format("{} -> {}{}", topology.vertex(link.from).name,
                        topology.vertex(link.to).name,
                        k == 0 ? "" : fmt::format(" ({})", k + 1)));
      }
    }
    return result;
  }

 private:
  struct Row {
    int number = 0;
    double busy_until = 0;
  };
  std::vector<std::vector<Row>> rows_;
  int count_ = 0;
};

void add_links(const Timeline& timeline, double offset,
               const topology::Topology& topology, LinkRows& rows,
               std::vector<Event>& events) {
  std::vector<const MessageTimes*> messages;
  for (const MessageTimes& message : timeline.messages) {
    if (message.end_seconds != kNever) messages.push_back(&message);
  }
  std::ranges::stable_sort(messages, {}, &MessageTimes::start_seconds);
  std::vector<std::vector<std::vector<int>>> routes;
  for (Rank from = 0; from < topology.ranks(); ++from) {
    routes.push_back(topology.routes(from));
  }
  for (const MessageTimes* message : messages) {
    const plan::Transfer& first = message->first;
    const double start = offset + message->start_seconds;
    const double end = offset + message->end_seconds;
    for (const int link : routes[first.from][first.to]) {
      events.push_back({kLinks, rows.take(link, start, end), start, end,
                        fmt::format("{} {}", plan::name(first.payload),
                                    block_name(first.block))});
    }
  }
}

void add_ranks(const Timeline& timeline, double offset,
               std::vector<Event>& events) {
  for (const TileTimes& tile : timeline.tiles) {
    if (tile.end_seconds == kNever) continue;
    events.push_back({kCompute, tile.tile.rank, offset + tile.start_seconds,
                      offset + tile.end_seconds, block_name(tile.tile.block)});
  }
  for (const WaitTimes& wait : timeline.waits) {
    events.push_back({kWaiting, wait.rank, offset + wait.start_seconds,
                      offset + wait.end_seconds,
                      fmt::format("step {}", wait.step)});
  }
}

std::string named(const char* what, int group, int row,
                  const std::string& name) {
  return fmt::format(
      R"({{"ph": "M", "name": "{}", "pid": {}, "tid": {}, "args": {{"name": {}}}}})",
      what, group, row, Json(name).dump());
}

}  // namespace

std::string chrome_trace(const std::vector<Timeline>& passes,
                         const topology::Topology& topology) {
  std::vector<Event> events;
  LinkRows rows(static_cast<int>(topology.links().size()));
  double offset = 0;
  for (const Timeline& timeline : passes) {
    add_ranks(timeline, offset, events);
    add_links(timeline, offset, topology, rows, events);
    if (!timeline.complete()) break;
    offset += timeline.seconds;
  }
  std::ranges::stable_sort(events, {}, &Event::start_seconds);

  std::vector<std::string> lines = {
      named("process_name", kCompute, 0, "compute"),
      named("process_name", kWaiting, 0, "waiting"),
      named("process_name", kLinks, 0, "links")};
  for (Rank rank = 0; rank < topology.ranks(); ++rank) {
    for (const int group : {kCompute, kWaiting}) {
      lines.push_back(
          named("thread_name", group, rank, topology.vertex(rank).name));
    }
  }
  for (const auto& [number, name] : rows.names(topology)) {
    lines.push_back(named("thread_name", kLinks, number, name));
  }
  for (const Event& event : events) {
    const double start = event.start_seconds * 1e6;
    lines.push_back(fmt::format(
        R"({{"ph": "X", "name": {}, "pid": {}, "tid": {}, "ts": {}, "dur": {}}})",
        Json(event.name).dump(), event.group, event.row, start,
        std::max(0.0, event.end_seconds * 1e6 - start)));
  }
  return fmt::format(
      "{{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n{}\n]}}\n",
      fmt::join(lines, ",\n"));
}

}  // namespace ringweave::sim
