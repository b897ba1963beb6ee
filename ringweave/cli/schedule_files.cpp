#include "ringweave/cli/schedule_files.h"

#include <fmt/format.h>

#include "ringweave/cli/output_file.h"

namespace ringweave::cli {

std::string schedule_path(schedule::Pass pass, const std::string& prefix) {
  return fmt::format("{}.{}.json", prefix, schedule::name(pass));
}

void check_schedules_writable(const std::vector<schedule::Pass>& passes,
                              const std::string& prefix,
                              const std::string& where) {
  for (const schedule::Pass pass : passes) {
    check_writable(schedule_path(pass, prefix), "--save-schedules", where);
  }
}

void save_schedule(const schedule::Schedule& schedule,
                   const std::string& prefix, const std::string& where) {
  const std::string path = schedule_path(schedule.pass, prefix);
  write_file(path, schedule::to_json(schedule).dump() + "\n", where);
  fmt::print(stderr, "wrote {}\n", path);
}

}  // namespace ringweave::cli
