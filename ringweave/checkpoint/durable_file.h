// Files that are on disk when the call returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ringweave::checkpoint {

/// What a file holds, to notice that it changed: its length, and XXH3's 128
/// bits in hexadecimal digits.
struct FileSum {
  std::int64_t bytes = 0;
  std::string xxh128;
  friend bool operator==(const FileSum&, const FileSum&) = default;
};

/// Of a file, which is read in pieces. Throws InvalidArgument if it can't be.
FileSum sum_of_file(const std::string& path);

/// A file that is written from its start to its end.
class DurableFile {
 public:
  /// Makes the file. Throws Error, which names the path and the reason, if that
  /// can't be done or if it exists; so do write() and finish().
  explicit DurableFile(std::string path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(std::span<const std::byte> bytes);
  /// Returns once all is on disk. To be called once, after the last write().
  FileSum finish();

 private:
  class Hash;
  friend FileSum sum_of_file(const std::string& path);

  [[noreturn]] void fail() const;

  std::string path_;
  int file_;
  std::unique_ptr<Hash> hash_;
};

/// A new file that holds `text`.
FileSum write_durable(const std::string& path, std::string_view text);

/// Which names a folder holds is on disk when this returns. Throws Error.
void sync_folder(const std::string& path);

}  // namespace ringweave::checkpoint
