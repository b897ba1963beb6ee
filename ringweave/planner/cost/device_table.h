// How long computing takes on a device: measured seconds of tiles by their
// size, or published rates.
//
//   const DeviceTable table = load_device_table("h100:efficiency=0.6");
//   const double s = table.tile_seconds(pairs * heads * batch, 128, false);
#pragma once

#include <string>
#include <vector>

#include "ringweave/base/element_type.h"
#include "ringweave/base/json.h"

namespace ringweave::planner {

/// Work of a backward pass over that of its forward pass: five matrix products
/// against two. Linear layers are taken to have the same ratio.
inline constexpr double kBackwardRatio = 2.5;

/// Seconds of attention over an area: visible (query, key) pairs × heads ×
/// batch. They are read on straight lines from the origin through the points. A
/// point below an earlier one is noise and counts as the earlier one. Beyond
/// the last point its rate (area per second) holds, since a line through the
/// last two would magnify their noise.
struct TileSeconds {
  struct Point {
    double area = 0;
    double seconds = 0;
    friend bool operator==(const Point&, const Point&) = default;
  };
  std::vector<Point> points;  ///< ascending areas
  friend bool operator==(const TileSeconds&, const TileSeconds&) = default;

  double seconds(double area) const;
  /// What no way of cutting the area into tiles beats: the area at the best
  /// rate of any point.
  double least_seconds(double area) const;
};

struct DeviceTable {
  std::string name;  ///< of the device, and options: "h100:rate=1e12"
  std::string source;
  std::string dtype;  ///< of what was measured or published; empty: any
  /// Dense products per second × efficiency; what linear layers are timed by,
  /// and attention too where nothing was measured. 0: linear layers go at the
  /// rate of forward's last point.
  double flops_per_second = 0;
  double efficiency = 1;
  int head_dim = 0;  ///< of what was measured; 0: nothing was
  TileSeconds forward = {};
  TileSeconds backward = {};
  friend bool operator==(const DeviceTable&, const DeviceTable&) = default;

  /// Two products of head_dim multiply-adds per pair forward: 4·area·head_dim
  /// FLOP; five backward, 10·…. What was measured with another head_dim is
  /// scaled by it.
  double tile_seconds(double area, int head_dim, bool backward) const;
  /// The least that the area takes, in however many tiles.
  double least_seconds(double area, int head_dim, bool backward) const;
  double flop_seconds(double flop) const;

 private:
  double timed(double area, int head_dim, bool backward,
               double (TileSeconds::*seconds)(double) const) const;
};

/// A file, if there is one of that name or it ends with ".json", else a name
/// such as "h100", with options after a colon: "efficiency=0.6" (0.5 unless
/// said), "rate=1e12" (FLOP/s; wanted by "custom"). Throws InvalidArgument.
DeviceTable load_device_table(const std::string& name_or_path);
std::vector<std::string> device_table_names();

/// {"format": "ringweave.device_table", "version": 1, "device", "dtype",
///  "head_dim", "points": [{"area", "seconds"}], "backward": [the same]};
/// "device" is the name of what was measured; without "backward" it counts 2.5
/// times forward.
Json to_json(const DeviceTable& table);
DeviceTable device_table_from_json(const Json& json, const std::string& path);

/// Throws InvalidArgument if `table` was measured with another type than
/// `type`; published rates are rough enough to serve all.
void check_dtype(const DeviceTable& table, ElementType type);

}  // namespace ringweave::planner
