// Reading files whole.
#pragma once

#include <string>

namespace ringweave {

/// The bytes of the file at `path`. Throws InvalidArgument that names the path,
/// what is wrong with it, and `wanted`, such as "a readable JSON file".
std::string read_file(const std::string& path, const std::string& wanted);

}  // namespace ringweave
