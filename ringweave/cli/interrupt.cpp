#include "ringweave/cli/interrupt.h"

#include <csignal>

namespace ringweave::cli {
namespace {

volatile std::sig_atomic_t pending = 0;
struct sigaction former_int;
struct sigaction former_term;

void note(int signal) { pending = signal; }

}  // namespace

Interrupted::Interrupted(int signal)
    : Error(fmt::format("stopped by signal {}", signal)), signal_(signal) {}

InterruptScope::InterruptScope() {
  pending = 0;
  struct sigaction action = {};
  action.sa_handler = note;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  sigaction(SIGINT, &action, &former_int);
  sigaction(SIGTERM, &action, &former_term);
}

InterruptScope::~InterruptScope() {
  sigaction(SIGINT, &former_int, nullptr);
  sigaction(SIGTERM, &former_term, nullptr);
}

void check_interrupted() {
  if (pending != 0) throw Interrupted(pending);
}

}  // namespace ringweave::cli
