// Ranks tell each other whether they could do their parts.
#pragma once

#include <exception>
#include <string>

#include "ringweave/base/error.h"
#include "ringweave/comm/communicator.h"

namespace ringweave::comm {

/// `fault`: why this rank could not do its part, or "". Returns "" if all
/// could, or else, on all ranks alike, the fault of the first that could not,
/// which is named unless all have the same. A collective of the communicator.
std::string first_fault(const std::string& fault, Communicator& communicator);

/// To be called by every rank before all throw the same. A rank that ends makes
/// the waits of the others fail: this returns once all know why, or one is
/// known to.
void before_common_error(Communicator& communicator);

/// Calls `work` on this rank, and throws the first rank's fault, as a `Fault`,
/// on all of them. Every rank must call it. A CommError is thrown on as it is.
template <typename Fault, typename Work>
void together(Communicator& communicator, const Work& work) {
  std::string fault;
  try {
    work();
  } catch (const CommError&) {
    throw;
  } catch (const std::exception& error) {
    fault = error.what();
  }
  const std::string first = first_fault(fault, communicator);
  if (!first.empty()) throw Fault(first);
}

}  // namespace ringweave::comm
