// For tests: a model split over ranks compared with the reference on one
// device.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/models/model.h"
#include "ringweave/models/test_weights.h"

namespace ringweave::models::test {

struct SplitNames {
  std::string layout;
  std::string softmax;
  std::string linear;
};

/// Some of each, together.
const std::vector<SplitNames>& splits();

struct Result {
  double loss = 0;
  std::vector<at::Tensor> gradients;  ///< in fp64
};

/// Of two rows. `borders`: of their documents, if they have any.
Result reference(const ModelConfig& config, std::int64_t tokens,
                 const std::vector<Borders>& borders = {});

/// Loss and gradients summed over the ranks.
Result split(const ModelConfig& config, std::int64_t tokens, int ranks,
             const SplitNames& names,
             ElementType compute = ElementType::float64,
             const std::vector<Borders>& borders = {});

/// Expects equal losses and gradients, and that no gradient vanishes.
void expect_near(const Result& got, const Result& want,
                 const ModelConfig& config, double tolerance);

/// Expects that the model is the reference to 1e-10 however it is split.
void expect_exact(const ModelConfig& config, std::int64_t tokens,
                  const std::vector<int>& rank_counts,
                  const std::vector<SplitNames>& splits,
                  const std::vector<Borders>& borders = {});

}  // namespace ringweave::models::test
