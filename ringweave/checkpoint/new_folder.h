// A folder that is there under its name once it is complete.
#pragma once

#include <filesystem>
#include <string>

namespace ringweave::checkpoint {

class NewFolder {
 public:
  /// Makes a folder beside `path` to write into. Throws InvalidArgument, which
  /// starts with [where], if `path` is there or that can't be done.
  NewFolder(const std::string& path, const std::string& where);
  /// Removes what was not completed.
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// Where it is written.
  std::string partial() const { return partial_.string(); }
  std::string file(const std::string& name) const { return partial_ / name; }
  /// Its files must be on disk. Throws Error.
  void complete();

 private:
  std::string where_;
  std::filesystem::path path_;
  std::filesystem::path partial_;
};

}  // namespace ringweave::checkpoint
