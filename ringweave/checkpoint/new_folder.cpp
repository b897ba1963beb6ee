#include "ringweave/checkpoint/new_folder.h"

#include <system_error>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/durable_file.h"

namespace ringweave::checkpoint {

namespace fs = std::filesystem;

NewFolder::NewFolder(const std::string& path, const std::string& where)
    : where_(where), path_(fs::absolute(path).lexically_normal()) {
  if (!path_.has_filename()) path_ = path_.parent_path();  // "…/"
  partial_ = path_.string() + ".partial";
  std::error_code error;
  require(!fs::exists(path_, error) && !error,
          "[{}] got {}, which exists; want a new folder", where, path);
  fs::remove_all(partial_, error);
  fs::create_directories(partial_, error);
  require(!error, "[{}] can't make {}: {}", where, partial_.string(),
          error.message());
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

void NewFolder::complete() {
  sync_folder(partial_);
  std::error_code error;
  fs::rename(partial_, path_, error);
  if (error) {
    throw Error(fmt::format("[{}] can't make {}: {}", where_, path_.string(),
                            error.message()));
  }
  sync_folder(path_.parent_path());
}

}  // namespace ringweave::checkpoint
