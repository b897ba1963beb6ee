// For tests: attention split over ranks compared with the formula on one
// device.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/attention.h"
#include "ringweave/comm/local_ranks.h"

namespace ringweave::attention::test {

inline constexpr double kExact = 1e-10;

/// What goes in and what one device makes of it, for the whole sequence.
struct Case {
  at::Tensor q, k, v, grad_out;
  at::Tensor out, lse, grad_q, grad_k, grad_v;
};

struct Sizes {
  std::int64_t batch = 2;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 2;
  std::int64_t head_dim = 3;
};

/// Attention as the formula says, with the whole matrix, in fp64, of random
/// inputs that `type` has. `sees`: (queries, keys), true where one sees the
/// other.
Case formula(const at::Tensor& sees, const Sizes& sizes, double scale,
             std::uint64_t seed, at::ScalarType type = at::kDouble);

/// The same, of a mask.
Case reference(const schedule::Mask& mask, std::int64_t q_tokens,
               std::int64_t kv_tokens, const Sizes& sizes, double scale,
               std::uint64_t seed, at::ScalarType type = at::kDouble);

/// A rank's tokens of a whole tensor.
at::Tensor shard(const at::Tensor& x, const schedule::Layout& layout, Rank rank,
                 int dimension = 1);

/// max|got - want| <= tolerance · max(1, max|want|), infinities equal.
void expect_close(const at::Tensor& got, const at::Tensor& want,
                  double tolerance, const char* what);

struct Scenario {
  AttentionSpec spec;
  Sizes sizes = {};
  double scale = 0.4;
  at::ScalarType type = at::kDouble;
  double tolerance = kExact;
  bool grad_payload_in_compute_type = false;
  comm::FaultInjection faults = {};
};

/// Runs the scenario on all ranks and compares each shard with one device.
void expect_exact(const Scenario& scenario, std::uint64_t seed = 1);

/// Even, uneven, and with empty shards, for a number of ranks.
std::vector<schedule::Layout> layouts(int ranks);

}  // namespace ringweave::attention::test
