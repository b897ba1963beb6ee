#include "ringweave/cli/schedule_files.h"

#include <fstream>

#include <fmt/format.h>

#include "ringweave/base/error.h"

namespace ringweave::cli {

void save_schedule(const plan::Schedule& schedule, const std::string& prefix,
                   const std::string& where) {
  const std::string path =
      fmt::format("{}.{}.json", prefix, plan::name(schedule.pass));
  std::ofstream file(path);
  file << plan::to_json(schedule) << "\n";
  file.close();
  require(file.good(), "{} could not write {}", where, path);
  fmt::print(stderr, "wrote {}\n", path);
}

}  // namespace ringweave::cli
