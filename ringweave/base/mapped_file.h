// Reading a file where it lies, without a copy.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace ringweave {

/// The bytes of a file as memory that the system reads when it is looked at and
/// may drop again. The file must not get shorter while this lives.
class MappedFile {
 public:
  /// Throws InvalidArgument that names the path, what is wrong with it, and
  /// `wanted`, such as "a readable text file".
  MappedFile(const std::string& path, const std::string& wanted);
  ~MappedFile();
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;

  std::span<const std::byte> bytes() const;
  /// Part of bytes() leaves this process's resident memory, into which it comes
  /// back when it is looked at. For who goes through more than stays useful.
  void drop(std::span<const std::byte> part) const;

 private:
  struct Region;

  std::unique_ptr<Region> region_;  ///< null: an empty file
};

}  // namespace ringweave
