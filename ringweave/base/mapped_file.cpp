#include "ringweave/base/mapped_file.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>

#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <sys/mman.h>

#include "ringweave/base/error.h"

namespace ringweave {

namespace interprocess = boost::interprocess;

struct MappedFile::Region {
  interprocess::mapped_region memory;
};

MappedFile::MappedFile(const std::string& path, const std::string& wanted) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  require(!error, "[{}] got {}; want {}", path, error.message(), wanted);
  // An empty file can't be mapped.
  if (size == 0) return;
  try {
    const interprocess::file_mapping file(path.c_str(),
                                          interprocess::read_only);
    region_ = std::make_unique<Region>(Region{{file, interprocess::read_only}});
  } catch (const interprocess::interprocess_exception& fault) {
    throw InvalidArgument(
        fmt::format("[{}] got {}; want {}", path, fault.what(), wanted));
  }
}

MappedFile::~MappedFile() = default;
MappedFile::MappedFile(MappedFile&&) noexcept = default;
MappedFile& MappedFile::operator=(MappedFile&&) noexcept = default;

void MappedFile::drop(std::span<const std::byte> part) const {
  if (part.empty()) return;
  // The system maps what it has of the 64 KiB around a page that is looked at.
  constexpr std::uintptr_t kAround = 1 << 16;
  const auto whole = bytes();
  const auto address = [](const std::byte* byte) {
    return reinterpret_cast<std::uintptr_t>(byte);
  };
  const std::uintptr_t begin =
      std::max(address(whole.data()), address(part.data()) / kAround * kAround);
  const std::uintptr_t end =
      std::min(address(whole.data() + whole.size()),
               (address(part.data() + part.size()) / kAround + 1) * kAround);
  // The mapping starts at a page. A refusal costs memory alone.
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::span<const std::byte> MappedFile::bytes() const {
  if (!region_) return {};
  return {static_cast<const std::byte*>(region_->memory.get_address()),
          region_->memory.get_size()};
}

}  // namespace ringweave
