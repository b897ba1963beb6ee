#include "ringweave/cli/output_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "ringweave/base/error.h"

namespace ringweave::cli {

void check_writable(const std::string& path, const std::string& option,
                    const std::string& where) {
  std::error_code ignored;
  const bool there = std::filesystem::exists(path, ignored);
  errno = 0;
  const bool opens = std::ofstream(path, std::ios::app).is_open();
  require(opens, "{} got {} {}: {}; want a file that can be written", where,
          option, path, std::strerror(errno));
  if (!there) std::filesystem::remove(path, ignored);
}

void write_file(const std::string& path, const std::string& text,
                const std::string& where) {
  errno = 0;
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) {
    throw Error(fmt::format("{} could not write {}: {}", where, path,
                            std::strerror(errno)));
  }
}

}  // namespace ringweave::cli
