#include "ringweave/cli/bench/spread.h"

#include <algorithm>
#include <cstddef>

#include "ringweave/base/error.h"

namespace ringweave::cli {

Spread spread(std::vector<double> numbers) {
  ensure(!numbers.empty(), "a median of nothing");
  std::sort(numbers.begin(), numbers.end());
  const std::size_t half = numbers.size() / 2;
  const double median = numbers.size() % 2 == 1
                            ? numbers[half]
                            : (numbers[half - 1] + numbers[half]) / 2;
  return {median, numbers.front(), numbers.back()};
}

Json to_json(const Spread& numbers) {
  return {{"median", numbers.median},
          {"min", numbers.least},
          {"max", numbers.most}};
}

}  // namespace ringweave::cli
