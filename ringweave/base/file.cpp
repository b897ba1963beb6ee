#include "ringweave/base/file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "ringweave/base/error.h"

namespace ringweave {

std::string read_file(const std::string& path, const std::string& wanted) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::vector<char> piece(1 << 16);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())),
         file.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(file.gcount()));
  }
  // A folder opens well and fails when it is read.
  require(file.is_open() && !file.bad(), "[{}] got {}; want {}", path,
          errno != 0 ? std::strerror(errno) : "a read error", wanted);
  return text;
}

}  // namespace ringweave
