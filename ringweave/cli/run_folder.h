// The folder of a training run: docs/run-folder.md documents its files.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

#include "ringweave/base/json.h"

namespace ringweave::cli {

class RunFolder {
 public:
  /// Throws InvalidArgument if `path` exists and is not an empty folder.
  static void check(const std::string& path);
  /// Makes the folder at `path`, which is checked first. Throws InvalidArgument
  /// if that can't be done.
  static void make(const std::string& path);

  /// Writes config.json and run.json into a folder that make() made. Throws
  /// Error if it can't; so does add().
  RunFolder(const std::string& path, const Json& config, const Json& versions,
            std::int64_t seed);

  /// Appends a line to metrics.jsonl; it is on disk when this returns, as far
  /// as this process is concerned. What can't be written whole is not written.
  void add(const Json& line);

 private:
  std::string metrics_path() const { return path_ + "/metrics.jsonl"; }

  std::string path_;
  std::ofstream metrics_;
  std::uintmax_t size_ = 0;  ///< of metrics.jsonl
};

}  // namespace ringweave::cli
