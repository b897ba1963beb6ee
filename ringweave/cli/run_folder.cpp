#include "ringweave/cli/run_folder.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/checkpoint_folder.h"
#include "ringweave/checkpoint/durable_file.h"

namespace ringweave::cli {
namespace {

constexpr const char* kRunFolderWhere = "[run folder]";
constexpr const char* kRunFormat = "ringweave.run";
constexpr int kRunVersion = 1;
constexpr const char* kRunFile = "run.json";
constexpr const char* kLockFile = "run.lock";
constexpr const char* kMetricsFile = "metrics.jsonl";
constexpr const char* kFormerMetricsFile = "metrics.former.jsonl";

namespace fs = std::filesystem;

/// The old text or the new one is there, whatever happens.
void replace_file(const std::string& folder, const std::string& name,
                  const std::string& text) {
  const std::string path = folder + "/" + name;
  const std::string aside = path + ".partial";
  std::error_code error;
  fs::remove(aside, error);
  checkpoint::write_durable(aside, text);
  fs::rename(aside, path, error);
  if (error) {
    throw Error(fmt::format("{} can't write {}: {}", kRunFolderWhere, path,
                            error.message()));
  }
  checkpoint::sync_folder(folder);
}

bool is_there(const std::string& path) {
  std::error_code error;
  const bool there = fs::exists(path, error);
  require(!error, "{} can't look at {}: {}", kRunFolderWhere, path,
          error.message());
  return there;
}

/// A run that was killed at its start has but a lock. Throws InvalidArgument
/// for a file of another program in place of ours.
bool is_run(const std::string& path) {
  const std::string file = path + "/" + kRunFile;
  if (!is_there(file)) return is_there(path + "/" + kLockFile);
  const Json json = read_json_file(file);
  JsonObject object(json, file);
  check_format(object, kRunFormat, kRunVersion);
  return true;
}

bool same_folder(const std::string& a, const std::string& b) {
  std::error_code error;
  const bool same =
      fs::weakly_canonical(a, error) == fs::weakly_canonical(b, error);
  return same && !error;
}

/// The run at `path`, and its newest checkpoint.
RunPlace newest_of(const std::string& path) {
  return {path, true, checkpoint::CheckpointFolder(path).newest()};
}

/// What a folder given to --resume is.
RunPlace place_of(const std::string& resume) {
  if (const auto place = checkpoint::place_of_checkpoint(resume)) {
    const checkpoint::CheckpointFolder folder(place->run);
    const auto newest = folder.newest();
    require(newest && is_there(folder.path_of(place->step)),
            "[resume] got {}, which is not there; want a checkpoint, the "
            "folder of a run, or auto",
            resume);
    require(*newest == place->step,
            "[resume] got {}, but there is a later checkpoint {}; want the "
            "newest, or remove the later ones first",
            resume, folder.path_of(*newest));
    return {place->run, true, place->step};
  }
  require(is_run(resume),
          "[resume] got {}, which has no {}; want the folder of a run, one of "
          "its checkpoints, or auto",
          resume, kRunFile);
  RunPlace place = newest_of(resume);
  require(place.step.has_value(),
          "[resume] got {}, which has no checkpoint; want a run that has one",
          resume);
  return place;
}

}  // namespace

RunPlace find_run(const std::string& run_dir, const std::string& resume) {
  if (resume.empty()) return {run_dir};
  if (resume == "auto") {
    require(!run_dir.empty(),
            "[resume] got auto without --run-dir; want the folder of the run");
    return is_run(run_dir) ? newest_of(run_dir) : RunPlace{run_dir};
  }
  RunPlace place = place_of(resume);
  require(run_dir.empty() || same_folder(run_dir, place.path),
          "[resume] got {} and --run-dir {}; want the same run: it goes on in "
          "its folder",
          resume, run_dir);
  return place;
}

RunLock::RunLock(const std::string& path) {
  const std::string file = path + "/" + kLockFile;
  file_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ >= 0 && flock(file_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  if (file_ >= 0) close(file_);
  require(reason != EWOULDBLOCK,
          "{} got {}, in which another process trains; want a run that has "
          "ended",
          kRunFolderWhere, path);
  throw InvalidArgument(fmt::format("{} can't write {}: {}", kRunFolderWhere,
                                    file, std::strerror(reason)));
}

RunLock::~RunLock() { close(file_); }

void RunFolder::check(const std::string& path) {
  if (!is_there(path)) return;
  // A start that was refused leaves its lock.
  std::error_code error;
  bool empty = fs::is_directory(path, error);
  for (fs::directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    empty = empty && at->path().filename() == kLockFile;
  }
  require(empty && !error,
          "{} got {}, which exists; want a new or empty folder",
          kRunFolderWhere, path);
}

void RunFolder::make(const std::string& path) {
  check(path);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  require(!error, "{} can't make {}: {}", kRunFolderWhere, path,
          error.message());
}

RunFolder::RunFolder(const RunPlace& place, const Json& config,
                     const Json& versions, std::int64_t seed)
    : path_(place.path) {
  if (place.begun && !place.step) {
    // Of a run that begins anew nothing is lost.
    std::error_code ignored;
    fs::rename(metrics_path(), path_ + "/" + kFormerMetricsFile, ignored);
  }
  const std::string metrics = place.step ? metrics_until(*place.step) : "";
  replace_file(path_, "config.json", config.dump(2) + "\n");
  const Json run = {{"format", kRunFormat},
                    {"version", kRunVersion},
                    {"versions", versions},
                    {"seed", seed}};
  replace_file(path_, kRunFile, run.dump(2) + "\n");
  replace_file(path_, kMetricsFile, metrics);
  size_ = metrics.size();
  metrics_.open(metrics_path(), std::ios::app);
}

std::string RunFolder::metrics_path() const {
  return path_ + "/" + kMetricsFile;
}

std::string RunFolder::metrics_until(std::int64_t step) const {
  std::ifstream file(metrics_path());
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    // A process that was killed may have left half a line at the end.
    if (json.is_object() && json.contains("step") &&
        json["step"].is_number_integer() &&
        json["step"].get<std::int64_t>() <= step) {
      kept += line + "\n";
    }
  }
  return kept;
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
  throw Error(fmt::format("{} can't write {}: {}", kRunFolderWhere, file,
                          std::strerror(reason)));
}

}  // namespace ringweave::cli
