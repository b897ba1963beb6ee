// Every rank asks every other one something and is answered: what stays where
// it lies is asked, what is small travels.
#pragma once

#include <cstddef>
#include <string>

#include "ringweave/comm/communicator.h"

namespace ringweave::comm {

/// One rank's part.
class Questions {
 public:
  virtual ~Questions() = default;

  /// Bytes of what `from` asks `to`, and of the answer: the same on both ranks.
  /// Without a question there is no answer; an answer may be empty too.
  virtual std::size_t question_bytes(Rank from, Rank to) const = 0;
  virtual std::size_t answer_bytes(Rank from, Rank to) const = 0;

  /// What this rank asks `to`; unchanged until ask_all() returns.
  virtual Buffer question(Rank to) = 0;
  /// Writes the answer to the question of `from`.
  virtual void answer(Rank from, const Buffer& question,
                      const Buffer& answer) = 0;
  /// What this rank asks itself; called once, while first questions travel.
  virtual void own() = 0;
  /// The answer of `to`. Always in the order rank + 1, rank + 2, …
  virtual void take(Rank to, const Buffer& answer) = 0;
};

/// Shift by shift: rank r asks r + s and is asked by r - s. Every rank must
/// call it, with the same `ahead`, at least 1: so many questions are under way
/// before the first one is answered, each in memory of its own. Blocks; throws
/// CommError as Communicator::wait().
void ask_all(Communicator& communicator, Questions& questions, int ahead,
             const std::string& operation);

}  // namespace ringweave::comm
