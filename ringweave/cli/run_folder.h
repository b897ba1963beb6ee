// The folder of a training run: docs/run-folder.md documents its files.
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "ringweave/base/json.h"

namespace ringweave::cli {

/// Where a run writes, and what it goes on from.
struct RunPlace {
  std::string path;                    ///< of its folder; empty: none
  bool begun = false;                  ///< the folder is that of an earlier run
  std::optional<std::int64_t> step{};  ///< of the checkpoint to go on from
};

/// What `--run-dir run_dir --resume resume` means; "": not given. `resume` is
/// "auto" (the newest checkpoint in run_dir; if there is none, a new run), the
/// folder of a run, or that of a checkpoint. Throws InvalidArgument for a
/// folder that is none of these or can't be read, and for a run that has later
/// checkpoints than the one named.
RunPlace find_run(const std::string& run_dir, const std::string& resume);

/// Keeps other processes out of a run's folder while it lives, or until the
/// process ends, however it does.
class RunLock {
 public:
  /// `path` must be there. Throws InvalidArgument if another process has the
  /// lock, or if there can be none.
  explicit RunLock(const std::string& path);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int file_;
};

class RunFolder {
 public:
  /// Throws InvalidArgument if `path` exists and is not an empty folder, but
  /// for a lock.
  static void check(const std::string& path);
  /// Makes the folder at `path`, which is checked first. Throws InvalidArgument
  /// if that can't be done.
  static void make(const std::string& path);

  /// Writes config.json and run.json into a folder that make() made, or that
  /// an earlier run began: of its metrics.jsonl the lines of later steps than
  /// place.step go. The caller has the lock. Throws Error if it can't; so does
  /// add().
  RunFolder(const RunPlace& place, const Json& config, const Json& versions,
            std::int64_t seed);

  /// Appends a line to metrics.jsonl; it is on disk when this returns, as far
  /// as this process is concerned. What can't be written whole is not written.
  void add(const Json& line);

 private:
  std::string metrics_path() const;
  /// Lines of at most `step` steps.
  std::string metrics_until(std::int64_t step) const;

  std::string path_;
  std::ofstream metrics_;
  std::uintmax_t size_ = 0;  ///< of metrics.jsonl
};

}  // namespace ringweave::cli
