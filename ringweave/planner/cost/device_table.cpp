#include "ringweave/planner/cost/device_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>

#include "ringweave/base/element_type.h"
#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"
#include "ringweave/base/range.h"

namespace ringweave::planner {
namespace {

constexpr const char* kTableFormat = "ringweave.device_table";
constexpr double kForwardFlop = 4;
/// What is believed; what lies outside is a slip, and could make times that no
/// double holds. FLOP/s × the least efficiency stay above 0.
constexpr double kMinFlops = 1, kMaxFlops = 1e30;
constexpr double kMinEfficiency = 1e-6;
constexpr double kMinArea = 1, kMaxArea = 1e24;
constexpr double kMinSeconds = 1e-12, kMaxSeconds = 1e6;

struct Published {
  const char* name;
  double flops_per_second;
  const char* dtype;
  const char* source;
};

// Dense, without the sparsity that data sheets like to count.
constexpr Published kPublished[] = {
    {"h100", 989.4e12, "bfloat16", "NVIDIA H100 SXM data sheet"},
    {"h800", 989.4e12, "bfloat16",
     "NVIDIA H100 SXM data sheet; H800 has the same cores, slower links"},
    {"h200", 989.4e12, "bfloat16", "NVIDIA H200 SXM data sheet"},
    {"a100", 312e12, "bfloat16", "NVIDIA A100 data sheet"},
    {"a800", 312e12, "bfloat16",
     "NVIDIA A100 data sheet; A800 has the same cores, slower links"},
    {"b200", 2250e12, "bfloat16", "NVIDIA DGX B200 data sheet, per GPU"},
    {"mi300x", 1307.4e12, "bfloat16", "AMD Instinct MI300X data sheet"},
    {"v100", 125e12, "float16",
     "NVIDIA V100 SXM2 data sheet; it has no bfloat16"},
    {"l20", 119.5e12, "bfloat16", "NVIDIA L20 data sheet"},
    {"cpu", 1e11, "float32",
     "a round figure for a few cores; measure yours with bench attention "
     "--save-device-table"},
};

TileSeconds tile_seconds_from_json(const Json& list, const std::string& path) {
  require(list.is_array() && !list.empty(),
          "[{}] got {}; want a list of at least one point", path,
          list.is_array() ? "an empty list" : list.type_name());
  TileSeconds tiles;
  for (std::size_t i = 0; i < list.size(); ++i) {
    JsonObject point(list[i], fmt::format("{}[{}]", path, i));
    tiles.points.push_back(
        {point.number("area", 0), point.number("seconds", 0)});
    point.done();
    const auto& [area, seconds] = tiles.points.back();
    require(area >= kMinArea && area <= kMaxArea && seconds >= kMinSeconds &&
                seconds <= kMaxSeconds,
            "[{}[{}]] got area {} and {} s; want an area of {} … {} and {} … "
            "{} s",
            path, i, area, seconds, kMinArea, kMaxArea, kMinSeconds,
            kMaxSeconds);
    const double before = i == 0 ? 0 : tiles.points[i - 1].area;
    require(area > before,
            "[{}[{}].area] got {}; want more than the one before, {}", path, i,
            area, before);
  }
  return tiles;
}

Json to_json(const TileSeconds& tiles) {
  Json points = Json::array();
  for (const auto& [area, seconds] : tiles.points) {
    points.push_back({{"area", area}, {"seconds", seconds}});
  }
  return points;
}

double read_number(const std::string& text, const std::string& option) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  require(error == std::errc{} && stopped == end && std::isfinite(value) &&
              value > 0,
          "[device_table] got {}={}; want a number above 0", option, text);
  return value;
}

DeviceTable published(const std::string& word) {
  for (const Published& row : kPublished) {
    if (word != row.name) continue;
    DeviceTable table{
        .name = row.name, .source = row.source, .dtype = row.dtype};
    table.flops_per_second = row.flops_per_second;
    table.efficiency = 0.5;
    return table;
  }
  if (word == "custom") return {.name = word, .source = "", .dtype = ""};
  const auto near = nearest(word, device_table_names());
  throw InvalidArgument(
      fmt::format("[device_table] got \"{}\"; {}want a file of a device table, "
                  "or one of {}",
                  word, near ? fmt::format("did you mean \"{}\"? ", *near) : "",
                  fmt::join(device_table_names(), ", ")));
}

DeviceTable named_table(const std::string& text) {
  const std::size_t colon = text.find(':');
  DeviceTable table = published(text.substr(0, colon));
  std::size_t begin = colon == text.npos ? text.npos : colon + 1;
  while (begin != text.npos) {
    const std::size_t end = text.find(',', begin);
    const std::string option = text.substr(begin, end - begin);
    begin = end == text.npos ? end : end + 1;
    const std::size_t equals = option.find('=');
    const std::string key = option.substr(0, equals);
    require(equals != option.npos && (key == "efficiency" || key == "rate"),
            "[device_table] got the option \"{}\"; want efficiency=… or rate=… "
            "(FLOP/s)",
            option);
    const double value = read_number(option.substr(equals + 1), key);
    (key == "rate" ? table.flops_per_second : table.efficiency) = value;
  }
  require(table.efficiency >= kMinEfficiency && table.efficiency <= 1,
          "[device_table] got efficiency={}; want at least {} and at most 1",
          table.efficiency, kMinEfficiency);
  require(
      table.flops_per_second > 0,
      "[device_table] got custom without a rate; want custom:rate=… (FLOP/s)");
  require(table.flops_per_second >= kMinFlops &&
              table.flops_per_second <= kMaxFlops,
          "[device_table] got rate={}; want {} … {} FLOP/s",
          table.flops_per_second, kMinFlops, kMaxFlops);
  table.name = text;
  return table;
}

}  // namespace

double TileSeconds::seconds(double area) const {
  Point low;
  for (Point point : points) {
    point.seconds = std::max(point.seconds, low.seconds);
    if (area <= point.area) {
      return std::lerp(low.seconds, point.seconds,
                       (area - low.area) / (point.area - low.area));
    }
    low = point;
  }
  return area * low.seconds / low.area;
}

double TileSeconds::least_seconds(double area) const {
  // Lines have their best rates at their ends.
  double seconds_per_area = std::numeric_limits<double>::infinity();
  for (const Point& point : points) {
    seconds_per_area =
        std::min(seconds_per_area, seconds(point.area) / point.area);
  }
  return area * seconds_per_area;
}

double DeviceTable::tile_seconds(double area, int dim, bool is_backward) const {
  return timed(area, dim, is_backward, &TileSeconds::seconds);
}

double DeviceTable::least_seconds(double area, int dim,
                                  bool is_backward) const {
  return timed(area, dim, is_backward, &TileSeconds::least_seconds);
}

double DeviceTable::timed(double area, int dim, bool is_backward,
                          double (TileSeconds::*seconds)(double) const) const {
  if (head_dim == 0) {
    return flop_seconds(area * dim * kForwardFlop *
                        (is_backward ? kBackwardRatio : 1));
  }
  const double scale = static_cast<double>(dim) / head_dim;
  if (is_backward && !backward.points.empty()) {
    return scale * (backward.*seconds)(area);
  }
  return scale * (is_backward ? kBackwardRatio : 1) * (forward.*seconds)(area);
}

double DeviceTable::flop_seconds(double flop) const {
  if (flops_per_second > 0) return flop / (flops_per_second * efficiency);
  const double area = forward.points.back().area;
  return flop * forward.seconds(area) / (area * kForwardFlop * head_dim);
}

std::vector<std::string> device_table_names() {
  std::vector<std::string> names;
  for (const Published& row : kPublished) names.emplace_back(row.name);
  names.emplace_back("custom");
  return names;
}

DeviceTable load_device_table(const std::string& name_or_path) {
  if (name_or_path.ends_with(".json") ||
      std::filesystem::is_regular_file(name_or_path)) {
    return device_table_from_json(read_json_file(name_or_path), name_or_path);
  }
  return named_table(name_or_path);
}

Json to_json(const DeviceTable& table) {
  Json json = {
      {"format", kTableFormat},     {"version", 1},
      {"device", table.name},       {"dtype", table.dtype},
      {"head_dim", table.head_dim}, {"points", to_json(table.forward)}};
  if (!table.backward.points.empty()) {
    json["backward"] = to_json(table.backward);
  }
  return json;
}

DeviceTable device_table_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  check_format(object, kTableFormat, 1);
  DeviceTable table{.name = object.name("device"),
                    .source = "measured",
                    .dtype = object.choice("dtype", element_type_names())};
  const std::int64_t head_dim = object.integer("head_dim", 1);
  require(head_dim <= kMaxHeadDim, "[{}.head_dim] got {}; want at most {}",
          path, head_dim, kMaxHeadDim);
  table.head_dim = static_cast<int>(head_dim);
  table.forward =
      tile_seconds_from_json(object.value("points"), path + ".points");
  if (object.has("backward")) {
    table.backward =
        tile_seconds_from_json(object.value("backward"), path + ".backward");
  }
  object.done();
  return table;
}

void check_dtype(const DeviceTable& table, ElementType type) {
  require(table.head_dim == 0 || table.dtype == name(type),
          "[device_table] got the table {}, measured with {}, for a model that "
          "computes in {}; want {} for both",
          table.name, table.dtype, name(type), table.dtype);
}

}  // namespace ringweave::planner
