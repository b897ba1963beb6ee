// Which files a config's paths name.
#pragma once

#include <string>
#include <vector>

namespace ringweave::data {

/// For each path in turn: the file; all files in the folder and those below it,
/// but hidden ones; or those that match the pattern (glob(7): *, ?, [a-z]).
/// Files of a folder or a pattern come sorted by the bytes of their paths.
/// Throws InvalidArgument, which names `field` and the path, for a path that
/// names no file.
std::vector<std::string> input_files(const std::vector<std::string>& paths,
                                     const std::string& field);

}  // namespace ringweave::data
