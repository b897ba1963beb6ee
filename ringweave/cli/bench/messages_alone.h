// What a topology tells beside a measurement: its messages without computing.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "ringweave/base/json.h"

namespace ringweave::cli {

struct MessagesAlone {
  std::optional<double> bare_seconds = {};   ///< posted all at once, measured
  std::optional<double> bound_seconds = {};  ///< the least of any schedule
  /// Of what was measured, with its computing; with a device table.
  std::optional<double> predicted_seconds = {};
};

/// Adds "bare_seconds", "bound_seconds" and "predicted_seconds": those there
/// are.
void add_to(Json& json, const MessagesAlone& alone);

/// Cells of a table, each after a space and of so many letters, for those there
/// are: heads, and milliseconds.
std::string heads(const MessagesAlone& alone,
                  const std::array<const char*, 3>& names, int width);
std::string cells(const MessagesAlone& alone, int width);

}  // namespace ringweave::cli
