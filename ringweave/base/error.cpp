#include "ringweave/base/error.h"

namespace ringweave {
namespace {

std::string describe(const CommError::Facts& facts) {
  std::string text = fmt::format("[{}] rank {}", facts.operation, facts.rank);
  if (facts.peer >= 0) text += fmt::format(", peer {}", facts.peer);
  if (facts.step >= 0) text += fmt::format(", step {}", facts.step);
  text += ": " + facts.cause;
  if (facts.first_failed >= 0) {
    text += fmt::format(" (first failed: rank {})", facts.first_failed);
  }
  return text;
}

}  // namespace

CommError::CommError(Facts facts)
    : Error(describe(facts)), facts_(std::move(facts)) {}

}  // namespace ringweave
