// For tests: short forms, which CI runs, and long ones.
#pragma once

#include <cstdlib>
#include <string>

namespace ringweave {

/// Whether RINGWEAVE_LONG=1 asks for all cases of tests that have many.
inline bool long_form() {
  const char* form = std::getenv("RINGWEAVE_LONG");
  return form && std::string(form) == "1";
}

}  // namespace ringweave
