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

std::string digits(const XXH128_hash_t& hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

struct DurableFile::Hash {
  XXH3_state_t state;
};

FileSum sum_of_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  std::int64_t bytes = 0;
  std::vector<char> piece(std::size_t{1} << 20);
  while (file.read(piece.data(), std::ssize(piece)), file.gcount() > 0) {
    XXH3_128bits_update(&state, piece.data(),
                        static_cast<std::size_t>(file.gcount()));
    bytes += file.gcount();
  }
  require(file.is_open() && !file.bad(), "[{}] got {}; want a readable file",
          path, errno != 0 ? std::strerror(errno) : "a read error");
  return {bytes, digits(XXH3_128bits_digest(&state))};
}

DurableFile::DurableFile(std::string path)
    : path_(std::move(path)),
      file_(open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)),
      hash_(std::make_unique<Hash>()) {
  if (file_ < 0) fail();
  XXH3_128bits_reset(&hash_->state);
}

DurableFile::~DurableFile() {
  if (file_ >= 0) close(file_);
}

void DurableFile::fail() const { fail_at(path_); }

void DurableFile::write(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&hash_->state, bytes.data(), bytes.size());
  bytes_ += static_cast<std::int64_t>(bytes.size());
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
  return {bytes_, digits(XXH3_128bits_digest(&hash_->state))};
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
