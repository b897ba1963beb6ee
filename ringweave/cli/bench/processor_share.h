// How busy the processors were during a measurement.
#pragma once

#include <string>

#include "ringweave/comm/communicator.h"

namespace ringweave::cli {

/// Above this share the processor may be what was measured.
inline constexpr double kBusy = 0.8;
/// A line below a table, whose rows above kBusy end with " !".
std::string busy_note();

/// Measures this process from its construction.
class ProcessorTime {
 public:
  struct Spent {
    double seconds = 0;  ///< of wall time
    double share = 0;    ///< of all cores meanwhile, by this process
  };

  ProcessorTime();
  /// So far.
  Spent spent() const;

 private:
  comm::Clock::time_point start_;
  double processor_seconds_;
};

/// Of the busiest machine, told by its name, from each rank's
/// ProcessorTime::Spent::share. Every rank calls it and gets the same.
/// `processes`: whether each rank is one; else all are threads of one, and rank
/// 0's share is taken.
double busiest_share(double mine, bool processes,
                     comm::Communicator& communicator);

}  // namespace ringweave::cli
