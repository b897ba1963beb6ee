#include "ringweave/cli/schedule_files.h"

#include <fmt/format.h>

#include "ringweave/cli/output_file.h"

namespace ringweave::cli {

std::string schedule_path(plan::Pass pass, const std::string& prefix) {
  return fmt::format("{}.{}.json", prefix, plan::name(pass));
}

void save_schedule(const plan::Schedule& schedule, const std::string& prefix,
                   const std::string& where) {
  const std::string path = schedule_path(schedule.pass, prefix);
  write_file(path, plan::to_json(schedule).dump() + "\n", where);
  fmt::print(stderr, "wrote {}\n", path);
}

}  // namespace ringweave::cli
