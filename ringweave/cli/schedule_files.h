// Schedules as files, for --schedule.
#pragma once

#include <string>
#include <vector>

#include "ringweave/schedule/schedule.h"

namespace ringweave::cli {

/// What --save-schedules takes, for --help.
inline constexpr const char* kSaveSchedulesHelp =
    "Write the strategy's schedules to PREFIX.forward.json and "
    "PREFIX.backward.json, for --schedule";

/// PREFIX.forward.json or PREFIX.backward.json.
std::string schedule_path(schedule::Pass pass, const std::string& prefix);

/// As check_writable(), of the schedules of these passes.
void check_schedules_writable(const std::vector<schedule::Pass>& passes,
                              const std::string& prefix,
                              const std::string& where);

/// Writes the schedule there, and says so on stderr; throws as write_file().
void save_schedule(const schedule::Schedule& schedule,
                   const std::string& prefix, const std::string& where);

}  // namespace ringweave::cli
