// Files that a command writes. Whether that is possible is found out before the
// work, not after it.
#pragma once

#include <string>

namespace ringweave::cli {

/// Throws InvalidArgument that names the option unless the file can be written.
/// Leaves its content as it is, and no file behind. `where` stands in errors.
void check_writable(const std::string& path, const std::string& option,
                    const std::string& where);

/// Throws Error if it can't be written after all.
void write_file(const std::string& path, const std::string& text,
                const std::string& where);

}  // namespace ringweave::cli
