#include "ringweave/cli/watch.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <fmt/format.h>

#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

constexpr std::size_t kRemembered = 50;
constexpr std::size_t kFewest = 10;  ///< steps that make a median
constexpr double kSlowFactor = 10;
constexpr double kSpikeDistances = 10;
constexpr double kSpikeShare = 0.1;

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

double median(const std::deque<double>& values) {
  return median(std::vector<double>(values.begin(), values.end()));
}

void remember(double value, std::deque<double>& values) {
  values.push_back(value);
  if (values.size() > kRemembered) values.pop_front();
}

}  // namespace

std::string name(Warning::Kind kind) {
  return kind == Warning::Kind::slow_step ? "slow_step" : "loss_spike";
}

std::string text(const Warning& warning) {
  return warning.kind == Warning::Kind::slow_step
             ? fmt::format("step {} took {}, {:.0f} times the median {}",
                           warning.step, time_text(warning.value),
                           warning.value / warning.median,
                           time_text(warning.median))
             : fmt::format(
                   "step {} has a loss of {:.4f}; the median before is {:.4f}",
                   warning.step, warning.value, warning.median);
}

std::vector<Warning> Watch::look(std::int64_t step, double loss,
                                 double seconds) {
  std::vector<Warning> warnings;
  if (losses_.size() >= kFewest) {
    const double usual = median(seconds_);
    if (seconds > kSlowFactor * usual) {
      warnings.push_back({Warning::Kind::slow_step, step, seconds, usual});
    }
    const double middle = median(losses_);
    std::vector<double> distances;
    for (const double before : losses_) {
      distances.push_back(std::abs(before - middle));
    }
    if (loss - middle > std::max(kSpikeDistances * median(distances),
                                 kSpikeShare * std::abs(middle))) {
      warnings.push_back({Warning::Kind::loss_spike, step, loss, middle});
    }
  }
  remember(loss, losses_);
  remember(seconds, seconds_);
  return warnings;
}

}  // namespace ringweave::cli
