#include "ringweave/cli/run_folder.h"

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
  write_file(path + "/metrics.jsonl", "", kWhere);
  metrics_.open(path + "/metrics.jsonl", std::ios::app);
}

void RunFolder::add(const Json& line) {
  metrics_ << line.dump() << std::endl;
  if (!metrics_) {
    throw Error(fmt::format("{} can't write {}/metrics.jsonl", kWhere, path_));
  }
}

}  // namespace ringweave::cli
