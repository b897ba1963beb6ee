#include "ringweave/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/durable_file.h"
#include "ringweave/checkpoint/state.h"

namespace ringweave::checkpoint {
namespace {

constexpr std::string_view kName = "checkpoints";
constexpr std::string_view kStep = "step-";
constexpr std::string_view kPartial = ".partial";

namespace fs = std::filesystem;

std::string step_name(std::int64_t step) {
  return fmt::format("{}{:08}", kStep, step);
}

/// Of a complete checkpoint's folder.
std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStep)) return {};
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] =
      std::from_chars(name.data() + kStep.size(), end, step);
  if (error != std::errc() || stop != end || step < 0 ||
      step_name(step) != name) {
    return {};
  }
  return step;
}

void check(const std::error_code& error, const char* what,
           const fs::path& path) {
  if (error) {
    throw Error(fmt::format("[checkpoint] can't {} {}: {}", what, path.string(),
                            error.message()));
  }
}

void rename_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  check(error, "rename", from);
}

void remove_folder(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  check(error, "remove", path);
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    names.push_back(at->path().filename());
  }
  // A run that has no checkpoint yet has none of the folder.
  require(!error || error == std::errc::no_such_file_or_directory,
          "[checkpoint] got {}: {}; want a folder that can be read", path,
          error.message());
  return names;
}

}  // namespace

CheckpointFolder::CheckpointFolder(const std::string& run)
    : path_((fs::path(run) / kName).string()) {}

std::string CheckpointFolder::path_of(std::int64_t step) const {
  return path_ + "/" + step_name(step);
}

std::string CheckpointFolder::partial_path_of(std::int64_t step) const {
  return path_of(step).append(kPartial);
}

std::vector<std::int64_t> CheckpointFolder::steps() const {
  std::vector<std::int64_t> steps;
  for (const std::string& name : names_in(path_)) {
    if (const auto step = step_of(name)) steps.push_back(*step);
  }
  std::ranges::sort(steps);
  return steps;
}

std::optional<std::int64_t> CheckpointFolder::newest() const {
  const auto all = steps();
  return all.empty() ? std::nullopt : std::optional(all.back());
}

void CheckpointFolder::begin(std::int64_t step) const {
  std::error_code error;
  if (fs::create_directories(path_, error)) {
    const fs::path run = fs::absolute(path_).parent_path();
    sync_folder(run);
    sync_folder(run.parent_path());
  }
  check(error, "make", path_);
  if (fs::exists(path_of(step), error)) {
    throw Error(
        fmt::format("[checkpoint] can't make {}: it is there", path_of(step)));
  }
  remove_partial();
  fs::create_directory(partial_path_of(step), error);
  check(error, "make", partial_path_of(step));
}

void CheckpointFolder::complete(std::int64_t step) const {
  sync_folder(partial_path_of(step));
  rename_folder(partial_path_of(step), path_of(step));
  sync_folder(path_);
}

void CheckpointFolder::remove_partial() const {
  for (const std::string& name : names_in(path_)) {
    if (name.starts_with(kStep) && name.ends_with(kPartial)) {
      remove_folder(fs::path(path_) / name);
    }
  }
}

void CheckpointFolder::keep(std::int64_t last, std::int64_t every) const {
  std::vector<std::int64_t> old = steps();
  old.resize(old.size() -
             std::min<std::size_t>(old.size(), static_cast<std::size_t>(last)));
  for (const std::int64_t step : old) {
    if (every > 0 && step % every == 0) continue;
    // What is half removed must not look complete.
    rename_folder(path_of(step), partial_path_of(step));
    sync_folder(path_);
    remove_folder(partial_path_of(step));
  }
}

std::optional<CheckpointPlace> place_of_checkpoint(const std::string& path) {
  if (path.empty()) return {};
  fs::path folder = fs::absolute(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // "…/"
  const auto step = step_of(folder.filename());
  if (!step || folder.parent_path().filename() != kName) return {};
  return CheckpointPlace{folder.parent_path().parent_path(), *step};
}

std::optional<std::string> find_checkpoint(const std::string& path) {
  if (path.empty()) return {};
  std::error_code error;
  if (place_of_checkpoint(path) ||
      fs::is_regular_file(fs::path(path) / kStateFile, error)) {
    return path;
  }
  if (!fs::is_directory(path, error)) return {};
  const CheckpointFolder folder(path);
  const auto newest = folder.newest();
  return newest ? std::optional(folder.path_of(*newest)) : std::nullopt;
}

}  // namespace ringweave::checkpoint
