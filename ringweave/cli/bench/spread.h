// Medians of repeated measurements.
#pragma once

#include <vector>

#include "ringweave/base/json.h"

namespace ringweave::cli {

struct Spread {
  double median = 0;
  double least = 0;
  double most = 0;
};

/// Of at least one number; the median of an even count is the middle pair's
/// mean.
Spread spread(std::vector<double> numbers);
/// {"median", "min", "max"}
Json to_json(const Spread& numbers);

}  // namespace ringweave::cli
