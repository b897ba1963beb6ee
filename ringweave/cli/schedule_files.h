// Schedules as files, for --schedule.
#pragma once

#include <string>

#include "ringweave/plan/schedule.h"

namespace ringweave::cli {

/// What --save-schedules takes, for --help.
inline constexpr const char* kSaveSchedulesHelp =
    "Write the strategy's schedules to PREFIX.forward.json and "
    "PREFIX.backward.json, for --schedule";

/// Writes PREFIX.forward.json, or PREFIX.backward.json, and says so on stderr.
/// `where` stands in errors. Throws InvalidArgument if it can't be written.
void save_schedule(const plan::Schedule& schedule, const std::string& prefix,
                   const std::string& where);

}  // namespace ringweave::cli
