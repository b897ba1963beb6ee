// The errors that Ringweave throws, and the checks that throw them.
//
// Texts start with the operation in brackets and name what was got and what
// is wanted: "[layout] got 0 ranks; want at least 1".
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace ringweave {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller gave something that can't be used: an argument, a file, a flag.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// What was asked for is well formed, but does not exist.
class NoSolution : public Error {
 public:
  using Error::Error;
};

/// An invariant of ours is broken: a bug in Ringweave.
class InternalError : public Error {
 public:
  using Error::Error;
};

/// A peer could not be reached, died, or did not answer in time. Fatal for the
/// communicator it came from.
class CommError : public Error {
 public:
  struct Facts {
    int rank = -1;          ///< who noticed
    int peer = -1;          ///< whom it waited for; -1: no single one
    int step = -1;          ///< step of the schedule; -1: outside a schedule
    std::string operation;  ///< such as "attention forward: receive"
    std::string cause;      ///< such as "no answer within 12 s"
    int first_failed = -1;  ///< first rank known to have failed; -1: unknown
  };

  explicit CommError(Facts facts);

  const Facts& facts() const { return facts_; }

 private:
  Facts facts_;
};

/// Throws InvalidArgument with the formatted text unless `ok`.
template <typename... Args>
void require(bool ok, fmt::format_string<Args...> text, Args&&... args) {
  if (!ok)
    throw InvalidArgument(fmt::format(text, std::forward<Args>(args)...));
}

/// Throws InternalError with the formatted text unless `ok`.
template <typename... Args>
void ensure(bool ok, fmt::format_string<Args...> text, Args&&... args) {
  if (!ok) {
    throw InternalError("bug in ringweave: " +
                        fmt::format(text, std::forward<Args>(args)...));
  }
}

}  // namespace ringweave
