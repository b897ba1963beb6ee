#include "ringweave/data/input_files.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include <glob.h>

#include "ringweave/base/error.h"

namespace ringweave::data {
namespace {

namespace fs = std::filesystem;

void add_folder(const fs::path& folder, const std::string& field,
                std::vector<std::string>& files) {
  for (auto at = fs::recursive_directory_iterator(folder);
       at != fs::recursive_directory_iterator(); ++at) {
    const bool is_folder = at->is_directory();
    if (at->path().filename().native().starts_with('.')) {
      if (is_folder) at.disable_recursion_pending();
      continue;
    }
    require(is_folder ? !at->is_symlink() : at->is_regular_file(),
            "[{}] got {} within a folder; want files, links to files and "
            "folders alone",
            field, at->path().string());
    if (!is_folder) files.push_back(at->path().string());
  }
}

std::vector<std::string> matches(const std::string& pattern,
                                 const std::string& field) {
  glob_t found{};
  const std::unique_ptr<glob_t, decltype(&globfree)> owner(&found, globfree);
  const int code =
      glob(pattern.c_str(), GLOB_NOSORT | GLOB_ERR, nullptr, &found);
  require(code == 0 || code == GLOB_NOMATCH,
          "[{}] got a read error for the pattern {}; want folders that can be "
          "read",
          field, pattern);
  return {found.gl_pathv, found.gl_pathv + found.gl_pathc};
}

/// Appends what lies at `path`.
void add(const std::string& path, const std::string& field,
         std::vector<std::string>& files) {
  if (fs::is_directory(path)) {
    add_folder(path, field, files);
  } else {
    files.push_back(path);
  }
}

}  // namespace

std::vector<std::string> input_files(const std::vector<std::string>& paths,
                                     const std::string& field) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    const auto before = static_cast<std::ptrdiff_t>(files.size());
    bool is_pattern = false;
    try {
      // A file may have a pattern's characters in its name.
      is_pattern =
          path.find_first_of("*?[") != std::string::npos && !fs::exists(path);
      require(!is_pattern || path.find("**") == std::string::npos,
              "[{}] got {}; want a pattern without **: a folder stands for all "
              "that is below it",
              field, path);
      if (is_pattern) {
        for (const std::string& match : matches(path, field)) {
          add(match, field, files);
        }
      } else {
        add(path, field, files);
      }
    } catch (const fs::filesystem_error& error) {
      throw InvalidArgument(
          fmt::format("[{}] got {}: {}; want files that can be read", field,
                      error.path1().string(), error.code().message()));
    }
    const auto own = files.begin() + before;
    require(own != files.end(), "[{}] got {}, {}; want at least one file",
            field, path,
            is_pattern ? "which no file matches" : "a folder without files");
    std::sort(own, files.end());
  }
  return files;
}

}  // namespace ringweave::data
