#include "ringweave/checkpoint/durable_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ringweave/base/error.h"

namespace ringweave::checkpoint {
namespace {

[[noreturn]] void fail_at(const std::string& path) {
  throw Error(fmt::format("[checkpoint] can't write {}: {}", path,
                          std::strerror(errno)));
}

}  // namespace

class DurableFile::Hash {
 public:
  Hash() { XXH3_128bits_reset(&state_); }

  void add(std::span<const std::byte> bytes) {
    XXH3_128bits_update(&state_, bytes.data(), bytes.size());
    bytes_ += static_cast<std::int64_t>(bytes.size());
  }
  FileSum sum() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(&state_);
    return {bytes_, fmt::format("{:016x}{:016x}", hash.high64, hash.low64)};
  }

 private:
  XXH3_state_t state_;
  std::int64_t bytes_ = 0;
};

FileSum sum_of_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  DurableFile::Hash hash;
  std::vector<char> piece(std::size_t{1} << 20);
  while (file.read(piece.data(), std::ssize(piece)), file.gcount() > 0) {
    hash.add(std::as_bytes(std::span(piece))
                 .first(static_cast<std::size_t>(file.gcount())));
  }
  require(file.is_open() && !file.bad(), "[{}] got {}; want a readable file",
          path, errno != 0 ? std::strerror(errno) : "a read error");
  return hash.sum();
}

DurableFile::DurableFile(std::string path)
    : path_(std::move(path)),
      file_(open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)),
      hash_(std::make_unique<Hash>()) {
  if (file_ < 0) fail();
}

DurableFile::~DurableFile() {
  if (file_ >= 0) close(file_);
}

void DurableFile::fail() const { fail_at(path_); }

void DurableFile::write(std::span<const std::byte> bytes) {
  hash_->add(bytes);
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail();
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

FileSum DurableFile::finish() {
  if (fsync(file_) != 0) fail();
  // A file system may tell only now that it has no room.
  if (close(std::exchange(file_, -1)) != 0) fail();
  return hash_->sum();
}

FileSum write_durable(const std::string& path, std::string_view text) {
  DurableFile file(path);
  file.write(std::as_bytes(std::span(text)));
  return file.finish();
}

void sync_folder(const std::string& path) {
  const int folder = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = folder >= 0 && fsync(folder) == 0;
  const int reason = errno;
  if (folder >= 0) close(folder);
  errno = reason;
  if (!synced) fail_at(path);
}

}  // namespace ringweave::checkpoint
