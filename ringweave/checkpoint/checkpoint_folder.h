// The checkpoints of a run: RUN/checkpoints/step-00000100 for 100 steps.
//
// A folder of that name is complete: a checkpoint is written as
// step-00000100.partial and renamed when all of it is on disk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ringweave::checkpoint {

class CheckpointFolder {
 public:
  /// `run`: the run's folder, which need not exist.
  explicit CheckpointFolder(const std::string& run);

  const std::string& path() const { return path_; }
  std::string path_of(std::int64_t step) const;
  /// Where the checkpoint of `step` is written.
  std::string partial_path_of(std::int64_t step) const;
  /// Steps of the complete checkpoints, ascending. Throws InvalidArgument if
  /// the folder is there and can't be read; so does newest().
  std::vector<std::int64_t> steps() const;
  std::optional<std::int64_t> newest() const;

  // By one rank at a time. They throw Error that names the path if something
  // can't be written.

  /// Makes partial_path_of(step), and removes what is left of checkpoints that
  /// were not completed. Throws Error if there is a checkpoint of `step`.
  void begin(std::int64_t step) const;
  /// Makes partial_path_of(step) the checkpoint. Its files must be on disk.
  void complete(std::int64_t step) const;
  /// Removes every folder that was not completed.
  void remove_partial() const;
  /// Removes all checkpoints but the newest `last` (at least 1) and those of
  /// multiples of `every` steps (0: none).
  void keep(std::int64_t last, std::int64_t every) const;

 private:
  std::string path_;
};

/// The run's folder and the step of the checkpoint whose folder `path` is.
struct CheckpointPlace {
  std::string run;
  std::int64_t step = 0;
};
/// nullopt if `path` is no path of a checkpoint.
std::optional<CheckpointPlace> place_of_checkpoint(const std::string& path);

/// The folder of the checkpoint that `path` stands for: `path` itself if it is
/// a path of one or has the file of a checkpoint's state, wherever it lies; of
/// a run's folder the newest one. nullopt if it is neither, or a run without a
/// checkpoint. Throws as CheckpointFolder::newest().
std::optional<std::string> find_checkpoint(const std::string& path);

}  // namespace ringweave::checkpoint
