// Who did what to which bytes, and which of it is ordered, by vector clocks.
//
// Actors are streams and threads of the host. An actor's clock says how many
// operations of each actor are done when its own next one begins. Operations of
// one actor are in order; another's become known by join() of its clock, which
// is what an event carries. Two accesses are ordered if the later one's actor
// knew of the earlier one.
//
// Nothing here locks: state.h does.
#pragma once

#include <deque>
#include <set>
#include <string>
#include <vector>

#include "ringweave/device/simulated/byte_ranges.h"
#include "ringweave/device/simulated/simulated.h"

namespace ringweave::device::simulated {

using ActorId = int;

/// `clock` then knows what `other` knows too.
void join(Clock& clock, const Clock& other);

/// An operation of an actor: its `time`-th. 0 is before everything.
struct Operation {
  ActorId actor;
  std::uint32_t time;
  const char* name;  ///< lives forever
};

struct Access {
  enum class Kind {
    read,
    write,
    allocation  ///< the last use before the memory was given out again
  };

  bool reads() const { return kind == Kind::read; }

  Operation operation;
  Kind kind;
  ByteRows bytes;
};

/// The accesses to some memory that later ones have to be compared with.
struct Book {
  std::string name;
  std::vector<Access> accesses;
};

class HappensBefore {
 public:
  ActorId add_stream(std::string name);
  /// A thread that starts when `known` is done.
  ActorId add_host(std::string name, Clock known = {});

  Clock& clock(ActorId actor) { return actors_.at(actor).clock; }
  /// What `before` knows, `after` knows from now on.
  void order(ActorId before, ActorId after) {
    join(clock(after), clock(before));
  }

  /// The next operation of `actor`, launched by `host`: it begins after all
  /// that the host knows to be done.
  Operation begin(ActorId actor, ActorId host, const char* name);

  /// Compares an access with those before it, reports, and keeps it.
  void access(const Operation& operation, Book& book, const ByteRows& bytes,
              bool writes);

  /// Fresh memory of `owner`, which may have been freed on it a moment ago.
  void allocated(ActorId owner, Book& book, std::size_t size);
  /// `owner` gets the memory back when it, `host` and `others` have done what
  /// they have now. Reports accesses that may come later.
  void freed(ActorId owner, ActorId host, const std::vector<ActorId>& others,
             const Book& book, std::size_t size);

  /// Since the last call; each key() once.
  std::vector<Report> take_reports();

 private:
  struct Actor {
    std::string name;
    bool is_host;
    Clock clock;
    std::uint32_t freed = 0;  ///< its time when it last got memory back
  };

  ActorId add(Actor actor);
  std::string describe(const Operation& operation) const;
  void report(const char* kind, const Access& now, const Access& before,
              const Book& book);

  std::deque<Actor> actors_;
  std::vector<Report> reports_;
  std::set<std::string> keys_;  ///< of reports_
};

}  // namespace ringweave::device::simulated
