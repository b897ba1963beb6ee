// SIGINT and SIGTERM as a flag, asked for between layers and steps.
#pragma once

#include "ringweave/base/error.h"

namespace ringweave::cli {

/// The user or a launcher asked to stop.
class Interrupted : public Error {
 public:
  explicit Interrupted(int signal);
  int signal() const { return signal_; }

 private:
  int signal_;
};

/// While it lives, the first SIGINT or SIGTERM only says so and sets a flag; a
/// second one ends the process as usual. The former handlers return with its
/// end. One at a time per process: signal handlers can only reach a global.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

/// The signal that came since the scope began, or 0.
int interrupted();
/// Throws Interrupted if one came. Any thread may call it.
void check_interrupted();

}  // namespace ringweave::cli
