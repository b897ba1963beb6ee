#include "ringweave/cli/run_folder.h"

#include <filesystem>

#include "ringweave/base/error.h"

namespace ringweave::cli {
namespace {

std::ofstream opened(const std::filesystem::path& path) {
  std::ofstream file(path);
  if (!file) {
    throw Error(fmt::format("[run folder] can't write {}", path.string()));
  }
  return file;
}

}  // namespace

void RunFolder::make(const std::string& path) {
  std::error_code error;
  const bool there = std::filesystem::exists(path, error);
  require(!there || (std::filesystem::is_directory(path, error) &&
                     std::filesystem::is_empty(path, error)),
          "[run folder] got {}, which exists; want a new or empty folder",
          path);
  std::filesystem::create_directories(path, error);
  require(!error, "[run folder] can't make {}: {}", path, error.message());
}

RunFolder::RunFolder(const std::string& path, const Json& config,
                     const Json& versions, std::int64_t seed)
    : path_(path) {
  const std::filesystem::path folder(path);
  opened(folder / "config.json") << config.dump(2) << "\n";
  const Json run = {{"format", "ringweave.run"},
                    {"version", 1},
                    {"versions", versions},
                    {"seed", seed}};
  opened(folder / "run.json") << run.dump(2) << "\n";
  metrics_ = opened(folder / "metrics.jsonl");
}

void RunFolder::add(const Json& line) {
  metrics_ << line.dump() << std::endl;
  if (!metrics_) {
    throw Error(
        fmt::format("[run folder] can't write {}/metrics.jsonl", path_));
  }
}

}  // namespace ringweave::cli
