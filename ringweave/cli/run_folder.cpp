#include "ringweave/cli/run_folder.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "ringweave/base/error.h"
#include "ringweave/cli/output_file.h"

namespace ringweave::cli {
namespace {

constexpr const char* kWhere = "[run folder]";

}  // namespace

void RunFolder::check(const std::string& path) {
  std::error_code error;
  const bool there = std::filesystem::exists(path, error);
  require(!there || (std::filesystem::is_directory(path, error) &&
                     std::filesystem::is_empty(path, error)),
          "{} got {}, which exists; want a new or empty folder", kWhere, path);
}

void RunFolder::make(const std::string& path) {
  check(path);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  require(!error, "{} can't make {}: {}", kWhere, path, error.message());
}

RunFolder::RunFolder(const std::string& path, const Json& config,
                     const Json& versions, std::int64_t seed)
    : path_(path) {
  write_file(path + "/config.json", config.dump(2) + "\n", kWhere);
  const Json run = {{"format", "ringweave.run"},
                    {"version", 1},
                    {"versions", versions},
                    {"seed", seed}};
  write_file(path + "/run.json", run.dump(2) + "\n", kWhere);
  write_file(metrics_path(), "", kWhere);
  metrics_.open(metrics_path(), std::ios::app);
}

void RunFolder::add(const Json& line) {
  const std::string text = line.dump() + "\n";
  errno = 0;
  metrics_ << text << std::flush;
  if (metrics_) {
    size_ += text.size();
    return;
  }
  const int reason = errno;
  const std::string file = metrics_path();
  std::error_code ignored;
  std::filesystem::resize_file(file, size_, ignored);  // no torn line
  throw Error(fmt::format("{} can't write {}: {}", kWhere, file,
                          std::strerror(reason)));
}

}  // namespace ringweave::cli
