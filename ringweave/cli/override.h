// Fields of a config set from the command line.
#pragma once

#include <string>
#include <vector>

#include "ringweave/base/json.h"

namespace ringweave::cli {

/// Applies "path.to.key=value": sets that field, making objects on the way.
/// The value is read as JSON; what is not JSON is a string. Whether the field
/// exists is for the config's reader to say. Throws InvalidArgument if there is
/// no "=" or no path, or if the path goes through something that is no object.
void apply_override(Json& config, const std::string& assignment);

/// What a file says, with assignments over it. Throws as both.
Json read_json_file_with(const std::string& path,
                         const std::vector<std::string>& assignments);

}  // namespace ringweave::cli
