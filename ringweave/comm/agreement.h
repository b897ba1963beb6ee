// The ranks of a group compare their calls before data moves, so that ranks
// whose calls differ get one error instead of each other's numbers.
//
//   Agreement agreement(control, 60s);            // once per group
//   agreement.agree("attention", {{"heads", "8"}, {"type", "float32"}});
//   agreement.refuse("attention", "got q of 3 dimensions; want 4");
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/comm/transport.h"

namespace ringweave::comm {

/// What all ranks must have equal: names and texts, in the order in which
/// differences are looked for.
using Facts = std::vector<std::pair<std::string, std::string>>;

/// Where `ranks` (the facts of each rank) differ first, as "got heads "4" on
/// rank 1; want "2" as on rank 0 (ranks that differ from rank 0: 1)". A fact
/// that only some ranks have differs, too. nullopt if all are equal.
std::optional<std::string> first_difference(const std::vector<Facts>& ranks);

/// `text`, or its beginning, its length and its hash if it is long: what ranks
/// can compare and send in little room.
std::string abridged(std::string_view text);

/// The calls of the ranks differ, or some ranks refused theirs. Every rank
/// throws it, with one text; nothing was sent, and the group can be used on.
class Disagreement : public InvalidArgument {
 public:
  using InvalidArgument::InvalidArgument;
};

enum class AgreementMode {
  every,      ///< each call waits until all ranks are known to agree
  first_use,  ///< a call that was agreed on before is compared some calls later
  off         ///< nothing is compared
};
/// "every", "first_use", "off". InvalidArgument names the nearest.
AgreementMode agreement_mode_from_name(const std::string& name);
std::string name(AgreementMode mode);

/// One rank's part. Each call posts a record of fixed size to every other rank:
/// the number of the call, a digest of its facts, and whether it was refused.
/// Only where records differ, texts follow, of fixed size too.
///
/// Not noticed: a call that one rank skips and that equals the next one. A rank
/// that makes no call at all is a CommError at the time-out, which names the
/// rank and the call; after a CommError the group can't be used.
class Agreement {
 public:
  /// `control` connects the ranks and carries nothing else. `mode`: the same on
  /// all ranks.
  Agreement(std::shared_ptr<Transport> control,
            std::chrono::milliseconds time_out,
            AgreementMode mode = AgreementMode::every);
  ~Agreement();

  /// This rank's next call. Returns its number, from 1 on. `forward`: of a
  /// backward, the number of its forward. Throws Disagreement or CommError.
  std::int64_t agree(const std::string& operation, Facts facts,
                     std::int64_t forward = 0);

  /// This rank's next call is one that it can't make, for `reason`. Throws
  /// Disagreement, on the other ranks too, unless all ranks refuse for the same
  /// reason: then returns, and the caller throws its own error. With first_use
  /// the others can't be told in time: returns, and the caller must end().
  void refuse(const std::string& operation, const std::string& reason);

  /// Calls so far, refused ones too.
  std::int64_t calls() const { return calls_; }

  AgreementMode mode() const { return mode_; }
  /// A call of its own, which waits for all ranks whatever the mode was.
  void set_mode(AgreementMode mode);

  /// This rank takes no further part: the others' waits fail.
  void end() { control_->ended(); }

 private:
  struct Record;
  struct Call;

  /// Posts the record of this rank's next call.
  void post(const std::string& operation, Facts facts, std::int64_t forward,
            bool refused);
  /// To every rank its part of `all`, which has `bytes` of each rank.
  Works to_all(const Buffer& all, std::size_t bytes);
  void wait(Works& works, const Call& call);
  /// Compares all posted calls but the last `lag`.
  void compare_posted(std::size_t lag);
  void compare(Call& call);
  std::vector<Facts> exchange_texts(const Call& call);
  [[noreturn]] static void raise(const std::vector<Facts>& all);
  bool alone() const { return control_->size() == 1; }

  std::shared_ptr<Transport> control_;
  std::chrono::milliseconds time_out_;
  AgreementMode mode_;
  std::int64_t calls_ = 0;
  std::deque<Call> posted_;  ///< not yet compared, the oldest first
  std::unordered_set<std::uint64_t> agreed_;  ///< digests
};

}  // namespace ringweave::comm
