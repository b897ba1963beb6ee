// Steps of a run that are unlike those before.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace ringweave::cli {

struct Warning {
  enum class Kind { slow_step, loss_spike };
  Kind kind = Kind::slow_step;
  std::int64_t step = 0;
  double value = 0;   ///< seconds, or the loss
  double median = 0;  ///< of the steps before
};

/// "slow_step", "loss_spike".
std::string name(Warning::Kind kind);
/// In words.
std::string text(const Warning& warning);

/// Compares each step with the last ones before it.
class Watch {
 public:
  /// To be called for each step in order. A step is slow if it takes ten times
  /// the median; a loss is a spike if it lies more than ten times the median
  /// distance from the median above it, and more than a tenth of it. Nothing is
  /// said of the first steps.
  std::vector<Warning> look(std::int64_t step, double loss, double seconds);

 private:
  std::deque<double> losses_;
  std::deque<double> seconds_;
};

}  // namespace ringweave::cli
