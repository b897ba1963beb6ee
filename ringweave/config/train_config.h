// Everything that fixes a training run, as read from a JSON config.
//
//   {"format": "ringweave.config", "version": 1,
//    "model": {…}, "data": {"files": ["text.txt"], "seq_len": 1000, …}, …}
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/element_type.h"
#include "ringweave/base/json.h"
#include "ringweave/config/model_config.h"
#include "ringweave/schedule/exchange/state_exchange.h"

namespace ringweave::config {

/// Stands for a masked token in encoders of bytes, behind the 256 of these and
/// data::kEndOfBytes.
inline constexpr std::int64_t kMaskOfBytes = 257;

/// `format` of a config's file.
inline constexpr const char* kConfigFormat = "ringweave.config";

struct DataConfig {
  /// Files, folders and patterns, whose documents are joined in this order.
  std::vector<std::string> files{};
  /// The same for the validation loss; if there are none, the end of `files`:
  /// about `validation_fraction` of the tokens. 0 and no files: no validation.
  std::vector<std::string> validation_files{};
  double validation_fraction = 0.05;
  /// A name of data_formats(). "auto": by each file's name.
  std::string format = "auto";
  std::optional<std::string> text_field{};  ///< of JSON lines; none: "text"
  /// Ends each document in files of plain numbers.
  std::optional<std::int64_t> end_token{};
  /// "reset": tokens see their own document alone. "ignore": a sequence is one
  /// document.
  std::string documents = "ignore";
  /// Of encoders. The token in place of masked ones; none: kMaskOfBytes, where
  /// tokens are bytes.
  std::optional<std::int64_t> mask_token{};
  std::optional<double> mask_fraction{};  ///< of all tokens; none: 0.15
  std::int64_t seq_len = 1024;  ///< tokens per sequence; any length >= 1
  std::int64_t batch = 4;       ///< sequences per step

  // What holds in an encoder.
  std::int64_t mask() const { return mask_token.value_or(kMaskOfBytes); }
  double masked() const { return mask_fraction.value_or(0.15); }
  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

/// "auto", "text", "json_lines", "tokens", "uint16", "uint32".
const std::vector<std::string>& data_formats();

struct OptimizerConfig {
  double learning_rate = 3e-4;  ///< at the end of the warm-up
  double min_lr_ratio = 0.1;    ///< last learning rate / learning_rate
  std::int64_t warmup_steps = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  ///< of matrices only
  double clip_norm = 1.0;     ///< 0: no clipping
  friend bool operator==(const OptimizerConfig&,
                         const OptimizerConfig&) = default;
};

/// `ranks` are groups of consecutive ranks: a group splits the tokens of its
/// sequences, and groups split the sequences of a batch.
struct ParallelConfig {
  int ranks = 1;
  int sequence = 0;      ///< ranks of a group; 0: what ranks / data is
  int data = 1;          ///< groups
  int accumulation = 1;  ///< parts of a group's sequences, one after the other
  /// Each rank keeps and updates one piece of the optimizer's moments (ZeRO-1).
  bool shard_optimizer = false;
  /// Gradients of so many bytes, in whole layers, travel while backward
  /// computes the next ones; 0: all after backward.
  std::int64_t bucket_bytes = 4'000'000;
  /// Activations that backward computes again: "none", "mlp", "block".
  std::string recompute = "none";
  std::string layout = "zigzag";  ///< a name of schedule::Layout
  /// A name of schedule::Strategy, or "auto": what the planner picks.
  std::string softmax = "multi_ring";
  /// A name of schedule::StateExchange, or "auto".
  std::string linear = schedule::kDefaultStateExchange;
  /// For "auto": what planner::load_machine and planner::load_device_table
  /// take; without a device table "cpu". The topology also for a plan file,
  /// which must be for it.
  std::string topology{};
  std::string device_table{};
  double memory_limit_bytes = 0;  ///< of a rank, for "auto"; 0: none
  double message_overhead_seconds = 0;
  /// A plan file, in place of softmax and linear.
  std::string plan{};
  std::string grad_payload = "float32";  ///< or "compute"

  /// Ranks of a group.
  int sequence_ranks() const { return ranks / data; }
  friend bool operator==(const ParallelConfig&,
                         const ParallelConfig&) = default;
};

struct ValidationConfig {
  std::int64_t every = 0;    ///< steps between validations; 0: at the end only
  std::int64_t batches = 0;  ///< at most so many batches; 0: the whole text
  friend bool operator==(const ValidationConfig&,
                         const ValidationConfig&) = default;
};

/// Of runs that have a folder; they end with a checkpoint.
struct CheckpointConfig {
  std::int64_t every_steps = 0;  ///< steps between checkpoints; 0: at the end
  std::int64_t keep_last = 2;    ///< the newest ones that are kept
  std::int64_t keep_every = 0;   ///< those of its multiples too; 0: none
  friend bool operator==(const CheckpointConfig&,
                         const CheckpointConfig&) = default;
};

struct TimeOutConfig {
  double start_seconds = 60;
  double step_seconds = 600;
  friend bool operator==(const TimeOutConfig&, const TimeOutConfig&) = default;
};

/// The weights that a run begins with, in place of drawn ones; without meaning
/// for a run that goes on.
struct InitConfig {
  std::string from{};  ///< what find_model() takes; empty: all are drawn
  /// Names of tensors that are drawn whatever the folder has.
  std::vector<std::string> skip{};
  friend bool operator==(const InitConfig&, const InitConfig&) = default;
};

struct TrainConfig {
  ModelConfig model;
  InitConfig init;
  DataConfig data;
  OptimizerConfig optimizer;
  std::int64_t steps = 100;
  std::int64_t seed = 0;  ///< of the weights and the order of the data
  ElementType compute = ElementType::float32;
  ParallelConfig parallel;
  ValidationConfig validation;
  CheckpointConfig checkpoint;
  TimeOutConfig time_outs;
  int threads = 0;  ///< per rank, within an operation; 0: cores / ranks
  friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

/// Throws InvalidArgument unless ranks and the batch can be cut as the fields
/// of ParallelConfig say.
void check_groups(const TrainConfig& config);

/// Sequences of a batch that go through the model at a time, on one rank.
std::int64_t sequences_at_a_time(const TrainConfig& config);

/// Reads a config; `path` stands for it in errors. `data.files` may be absent
/// or empty: flags may name them, and check() wants them. Throws
/// InvalidArgument for an unknown key, a wrong type or a value out of range.
TrainConfig config_from_json(const Json& json, const std::string& path);
TrainConfig read_config(const std::string& path);
/// A resolved config that this or an older program wrote into a run's folder,
/// by the names that config_from_json reads: older ones wrote "device" for
/// parallel.device_table.
Json with_new_names(Json written);
/// The resolved config: every field, in the form that config_from_json reads.
Json to_json(const TrainConfig& config);

/// To be called when files and flags have been read. Throws InvalidArgument
/// naming the first field that can't be used. train::check_run() checks the
/// names of exchanges as well.
void check(const TrainConfig& config);

}  // namespace ringweave::config
