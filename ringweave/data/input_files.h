// Which files a config's paths name.
#pragma once

#include <string>
#include <vector>

namespace ringweave::data {

/// For each path in turn: the file; all files in the folder and those below it,
/// but hidden ones; or those that match the pattern (glob(7): *, ?, [a-z]).
/// Files of a folder or a pattern come sorted by the bytes of their paths.
/// Links to files are followed, and so is a path that is a link. Throws
/// InvalidArgument, which names `field` and the path, for a path that names no
/// file, **, and a folder that holds something else, such as a link to a
/// folder. `ringweave tokenize` (python/ringweave/commands/documents.py) finds
/// the same files.
std::vector<std::string> input_files(const std::vector<std::string>& paths,
                                     const std::string& field);

}  // namespace ringweave::data
