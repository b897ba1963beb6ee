#include "ringweave/attention/prepared.h"

#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/band_blocks.h"
#include "ringweave/device/torch_accelerator.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::attention {
namespace {

using schedule::Area;
using schedule::Band;
using schedule::Program;

/// (rows, keys), 0 where a row sees a key, else -inf. A blind row is 0 as well,
/// as no kernel takes a row that sees nothing.
struct Bias {
  at::Tensor bias;
  at::Tensor blind;  ///< (rows), undefined if there are none
};

Bias make_bias(std::int64_t rows, std::int64_t keys, const Band& band,
               const at::TensorOptions& options) {
  const at::TensorOptions index = options.dtype(at::kLong);
  const at::Tensor distance =
      at::arange(keys, index) * band.key_stride -
      at::arange(rows, index).unsqueeze(1) * band.row_stride;
  const at::Tensor hidden =
      (distance < band.low).logical_or_(distance > band.high);
  const at::Tensor blind = hidden.all(1);
  Bias result;
  if (blind.any().item<bool>()) result.blind = blind;
  result.bias =
      at::zeros({rows, keys}, options)
          .masked_fill_(hidden.logical_and_(blind.logical_not().unsqueeze(1)),
                        -std::numeric_limits<double>::infinity());
  return result;
}

/// One type for all calls, so that q is converted once.
at::ScalarType tile_type(const Program& program, const TileKind& inputs) {
  for (const Program::Step& step : program.steps) {
    for (const Program::Region& region : step.regions) {
      for (const Program::Call& call : region.calls) {
        // A band may be cut into blocks, of which some are full.
        if (!has_kernel(inputs, call.area) ||
            !has_kernel(inputs, {call.area.rows, call.area.keys})) {
          return tensor::accumulate_type(inputs.type);
        }
      }
    }
  }
  return inputs.type;
}

class Preparer {
 public:
  explicit Preparer(const TileKind& tile) : tile_(tile) {}

  PreparedRegion prepare(const Program::Region& region) {
    PreparedRegion result;
    result.region = &region;
    if (region.starts_at_zero) {
      result.keys_to_clear.push_back({0, region.keys.length});
    }
    for (const Program::Call& call : region.calls) add(call, result);
    return result;
  }

 private:
  void add(const Program::Call& call, PreparedRegion& region) {
    const KernelChoice choice = choose_kernel(tile_, call.area);
    if (choice.support == Support::direct) {
      region.calls.push_back(
          {choice.kernel, call.area, call.first_for_rows, call.first_for_keys});
    } else {
      add_blocks(call, region);
    }
  }

  void add_blocks(const Program::Call& call, PreparedRegion& region) {
    const std::vector<Area> blocks = band_blocks(call.area);
    bool first_for_rows = call.first_for_rows;
    if (first_for_rows && may_have_blind_rows(call.area)) {
      region.rows_to_clear.push_back(call.area.rows);
      first_for_rows = false;
    }
    // Blocks share keys.
    const bool alone = blocks.size() == 1 && blocks[0].keys == call.area.keys;
    if (call.first_for_keys && !alone) {
      region.keys_to_clear.push_back(call.area.keys);
    }
    Range rows;  // of the blocks so far
    for (const Area& block : blocks) {
      const bool same_rows = block.rows.begin < rows.end;
      rows = block.rows;
      const KernelChoice choice = choose_kernel(tile_, block);
      PreparedCall prepared{choice.kernel, block, first_for_rows && !same_rows,
                            call.first_for_keys && alone};
      if (choice.support == Support::with_bias) {
        const Bias& bias = bias_of(block);
        prepared.bias = bias.bias;
        prepared.blind = bias.blind;
      }
      region.calls.push_back(std::move(prepared));
    }
  }

  /// Made once for all blocks that are alike.
  const Bias& bias_of(const Area& block) {
    Band band = block.band;
    // Limits that no pair reaches are all the same.
    if (band.low <= -band.row_stride * (block.rows.size() - 1)) {
      band.low = -schedule::kUnlimited;
    }
    if (band.high >= band.key_stride * (block.keys.size() - 1)) {
      band.high = schedule::kUnlimited;
    }
    const auto key =
        std::tuple(block.rows.size(), block.keys.size(), band.row_stride,
                   band.key_stride, band.low, band.high);
    const auto [found, first] = biases_.try_emplace(key);
    if (first) {
      found->second =
          make_bias(block.rows.size(), block.keys.size(), band,
                    at::TensorOptions().dtype(tile_.type).device(tile_.device));
    }
    return found->second;
  }

  TileKind tile_;
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                      std::int64_t, std::int64_t>,
           Bias>
      biases_;
};

}  // namespace

PreparedSteps prepare(const Program& program, const TileKind& inputs) {
  PreparedSteps result{.type = tile_type(program, inputs), .regions = {}};
  Preparer preparer({inputs.device, result.type, inputs.head_dim});
  for (const Program::Step& step : program.steps) {
    auto& regions = result.regions.emplace_back();
    for (const Program::Region& region : step.regions) {
      regions.push_back(preparer.prepare(region));
    }
  }
  return result;
}

std::shared_ptr<const PreparedSteps> PreparedCalls::get(
    const Program& program, const TileKind& inputs) const {
  const std::int64_t stream = device::current_stream(inputs.device).id;
  const std::lock_guard lock(mutex_);
  auto& steps =
      steps_[{inputs.device.str(), stream, inputs.type, inputs.head_dim}];
  if (!steps) {
    steps = std::make_shared<const PreparedSteps>(prepare(program, inputs));
  }
  return steps;
}

}  // namespace ringweave::attention
