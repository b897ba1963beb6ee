#include "ringweave/cli/schedule_files.h"

#include <fmt/format.h>

#include "ringweave/cli/output_file.h"

namespace ringweave::cli {

std::string schedule_path(plan::Pass pass, const std::string& prefix) {
  return fmt::format("{}.{}.json", prefix, plan::name(pass));
}

void check_schedules_writable(const std::vector<plan::Pass>& passes,
                              const std::string& prefix,
                              const std::string& where) {
  for (const plan::Pass pass : passes) {
    check_writable(schedule_path(pass, prefix), "--save-schedules", where);
  }
}

void save_schedule(const plan::Schedule& schedule, const std::string& prefix,
                   const std::string& where) {
  const std::string path = schedule_path(schedule.pass, prefix);
  write_file(path, plan::to_json(schedule).dump() + "\n", where);
  fmt::print(stderr, "wrote {}\n", path);
}

}  // namespace ringweave::cli
