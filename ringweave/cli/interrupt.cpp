#include "ringweave/cli/interrupt.h"

#include <atomic>
#include <csignal>
#include <string_view>

#include <unistd.h>

namespace ringweave::cli {
namespace {

/// Any thread may be the one that handles a signal.
std::atomic<int> pending = 0;
static_assert(std::atomic<int>::is_always_lock_free);
struct sigaction former_int;
struct sigaction former_term;

void note(int signal) {
  pending = signal;
  // The next one ends the process, whichever it is.
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  // A signal handler may write, but not print.
  constexpr std::string_view kText =
      "\nringweave: stopping, which may take a while; again: at once\n";
  [[maybe_unused]] const auto written =
      write(STDERR_FILENO, kText.data(), kText.size());
}

}  // namespace

Interrupted::Interrupted(int signal)
    : Error(fmt::format("stopped by signal {}", signal)), signal_(signal) {}

InterruptScope::InterruptScope() {
  pending = 0;
  struct sigaction action = {};
  action.sa_handler = note;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &former_int);
  sigaction(SIGTERM, &action, &former_term);
}

InterruptScope::~InterruptScope() {
  sigaction(SIGINT, &former_int, nullptr);
  sigaction(SIGTERM, &former_term, nullptr);
}

void check_interrupted() {
  if (interrupted() != 0) throw Interrupted(interrupted());
}

int interrupted() { return pending; }

}  // namespace ringweave::cli
