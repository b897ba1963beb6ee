// What a checkpoint says of its run, beside the tensors.
#pragma once

#include <cstdint>
#include <string>

#include "ringweave/base/json.h"

namespace ringweave::checkpoint {

inline constexpr const char* kStateFile = "state.json";

struct State {
  std::int64_t step = 0;     ///< steps done
  std::int64_t samples = 0;  ///< sequences of the data that they used
  int parts = 1;             ///< files that hold the optimizer's state
  std::string data;          ///< hash of the data
  Json config;               ///< the resolved config of the run
  Json versions;             ///< of the programs that wrote it
};

Json to_json(const State& state);
/// Throws InvalidArgument, which names `path`, for what it can't be.
State state_from_json(const Json& json, const std::string& path);
/// Of the checkpoint in `folder`.
State read_state(const std::string& folder);

/// Throws InvalidArgument, which names the first field by which a run with
/// `config` and `data` is not the one that wrote `state`, the checkpoint in
/// `folder`. Ranks, layout, exchanges, threads, time-outs, checkpoints, the
/// paths of the data and the number of steps may differ.
void check_resumable(const State& state, const std::string& folder,
                     const Json& config, const std::string& data);

}  // namespace ringweave::checkpoint
