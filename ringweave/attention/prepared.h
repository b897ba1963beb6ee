// A program's kernel calls, ready for one device and type: with their kernels,
// and with the biases of their bands.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/kernel.h"
#include "ringweave/schedule/program/program.h"

namespace ringweave::attention {

struct PreparedCall {
  const Kernel* kernel = nullptr;
  schedule::Area area;  ///< as in schedule::Program::Call
  bool first_for_rows = true;
  bool first_for_keys = true;
  at::Tensor bias = {};   ///< undefined: none
  at::Tensor blind = {};  ///< (rows), true for rows whose bias hides all keys;
                          ///< undefined: there are none
};

/// A region of a program.
struct PreparedRegion {
  const schedule::Program::Region* region = nullptr;
  std::vector<PreparedCall> calls;
  /// Before the calls, these rows become rows without keys, and gradients of
  /// these keys become 0.
  std::vector<Range> rows_to_clear;
  std::vector<Range> keys_to_clear;
};

/// The program must outlive this.
struct PreparedSteps {
  at::ScalarType type;                               ///< of all tiles
  std::vector<std::vector<PreparedRegion>> regions;  ///< [step]
};

/// For inputs of a type. Tiles are of that type if there are kernels for all
/// calls, else of its accumulate type. Throws InvalidArgument if there are none
/// either.
PreparedSteps prepare(const schedule::Program& program, const TileKind& inputs);

/// What prepare() makes of one program, by inputs and stream, made when first
/// asked for: biases are used on the stream that they were made on. For several
/// threads.
class PreparedCalls {
 public:
  std::shared_ptr<const PreparedSteps> get(const schedule::Program& program,
                                           const TileKind& inputs) const;

 private:
  mutable std::mutex mutex_;
  mutable std::map<
      std::tuple<std::string, std::int64_t, at::ScalarType, std::int64_t>,
      std::shared_ptr<const PreparedSteps>>
      steps_;
};

}  // namespace ringweave::attention
