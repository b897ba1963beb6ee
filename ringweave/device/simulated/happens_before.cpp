#include "ringweave/device/simulated/happens_before.h"

#include <algorithm>
#include <ostream>
#include <utility>

#include <fmt/format.h>

namespace ringweave::device::simulated {
namespace {

std::uint32_t time_of(const Clock& clock, ActorId actor) {
  const auto at = static_cast<std::size_t>(actor);
  return at < clock.size() ? clock[at] : 0;
}

bool knows(const Clock& clock, const Operation& operation) {
  return time_of(clock, operation.actor) >= operation.time;
}

const char* kind_of(const Access& now, const Access& before) {
  if (before.kind == Access::Kind::allocation) return "fresh memory";
  if (now.reads()) return "read-after-write";
  return before.reads() ? "write-after-read" : "write-after-write";
}

}  // namespace

void join(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (std::size_t i = 0; i < other.size(); ++i) {
    clock[i] = std::max(clock[i], other[i]);
  }
}

ActorId HappensBefore::add(Actor actor) {
  actors_.push_back(std::move(actor));
  return static_cast<ActorId>(actors_.size()) - 1;
}

ActorId HappensBefore::add_stream(std::string name) {
  return add({.name = std::move(name), .is_host = false, .clock = {}});
}

ActorId HappensBefore::add_host(std::string name, Clock known) {
  return add(
      {.name = std::move(name), .is_host = true, .clock = std::move(known)});
}

Operation HappensBefore::begin(ActorId actor, ActorId host, const char* name) {
  order(host, actor);
  Clock& clock = this->clock(actor);
  const auto at = static_cast<std::size_t>(actor);
  if (clock.size() <= at) clock.resize(at + 1);
  return {.actor = actor, .time = ++clock[at], .name = name};
}

void HappensBefore::access(const Operation& operation, Book& book,
                           const ByteRows& bytes, bool writes) {
  if (bytes.width == 0) return;
  const Access now{operation, writes ? Access::Kind::write : Access::Kind::read,
                   bytes};
  const Clock& known = clock(operation.actor);
  for (const Access& before : book.accesses) {
    if (now.reads() && before.reads()) continue;
    if (knows(known, before.operation) || !overlap(bytes, before.bytes)) {
      continue;
    }
    report(kind_of(now, before), now, before, book);
  }
  // Whoever races with one of these races with this access too.
  std::erase_if(book.accesses, [&](const Access& before) {
    return (writes || before.reads()) && knows(known, before.operation) &&
           covers(bytes, before.bytes);
  });
  book.accesses.push_back(now);
}

void HappensBefore::allocated(ActorId owner, Book& book, std::size_t size) {
  book.accesses.push_back({{owner, actors_.at(owner).freed, "allocation"},
                           Access::Kind::allocation,
                           first_bytes(size)});
}

void HappensBefore::freed(ActorId owner, ActorId host,
                          const std::vector<ActorId>& others, const Book& book,
                          std::size_t size) {
  Clock done = clock(owner);
  join(done, clock(host));
  for (const ActorId other : others) join(done, clock(other));
  const Access free{{owner, 0, "free"}, Access::Kind::write, first_bytes(size)};
  for (const Access& before : book.accesses) {
    if (knows(done, before.operation)) continue;
    report("freed while in use", free, before, book);
  }
  actors_.at(owner).freed = time_of(clock(owner), owner);
}

std::vector<Report> HappensBefore::take_reports() {
  keys_.clear();
  return std::exchange(reports_, {});
}

std::string HappensBefore::describe(const Operation& operation) const {
  return fmt::format("{}@{}", operation.name, actors_.at(operation.actor).name);
}

void HappensBefore::report(const char* kind, const Access& now,
                           const Access& before, const Book& book) {
  const bool by_host = actors_.at(now.operation.actor).is_host ||
                       actors_.at(before.operation.actor).is_host;
  Report found{
      .kind = fmt::format("{}{}", by_host ? "host " : "", kind),
      .now = describe(now.operation),
      .before = describe(before.operation),
      .where = fmt::format("{} [{},{})", book.name,
                           std::max(now.bytes.begin, before.bytes.begin),
                           std::min(now.bytes.end(), before.bytes.end()))};
  if (keys_.insert(found.key()).second) reports_.push_back(std::move(found));
}

std::string Report::key() const {
  std::string either = kind;
  for (const char* one : {"read-after-write", "write-after-read"}) {
    const std::size_t at = either.find(one);
    if (at != std::string::npos)
      either.replace(at, std::string::npos, "read/write");
  }
  return fmt::format("{} {} | {} | {}", either, std::min(now, before),
                     std::max(now, before), where);
}

std::string Report::text() const {
  return fmt::format("{}: {} is not ordered after {} on {}", kind, now, before,
                     where);
}

std::ostream& operator<<(std::ostream& out, const Report& report) {
  return out << report.text();
}

}  // namespace ringweave::device::simulated
