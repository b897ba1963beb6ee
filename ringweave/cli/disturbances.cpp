#include "ringweave/cli/disturbances.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::cli {
namespace {

using topology::Topology;

/// What "A,B=X" and the like are cut into.
std::pair<std::string, std::string> cut_at(const std::string& text, char mark,
                                           const char* flag,
                                           const char* wanted) {
  const std::size_t at = text.rfind(mark);
  require(at != std::string::npos && at > 0 && at + 1 < text.size(),
          "{} got {} {}; want {}", kSimulateWhere, flag, text, wanted);
  return {text.substr(0, at), text.substr(at + 1)};
}

template <typename Number>
std::optional<Number> number(const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

double factor(const std::string& text, const char* flag) {
  const auto value = number<double>(text);
  require(value && std::isfinite(*value) && *value > 0,
          "{} got {} with a factor of {}; want a positive number",
          kSimulateWhere, flag, text);
  return *value;
}

/// A vertex by its name, or by its number.
int vertex(const Topology& topology, const std::string& text) {
  for (int i = 0; i < topology.vertices(); ++i) {
    if (topology.vertex(i).name == text) return i;
  }
  const auto index = number<int>(text);
  require(index && *index >= 0 && *index < topology.vertices(),
          "{} got {}; want the name of a vertex of {}, or a number 0 … {}",
          kSimulateWhere, text, topology.name(), topology.vertices() - 1);
  return *index;
}

std::pair<int, int> link(const Topology& topology, const std::string& text,
                         const char* flag) {
  const auto [from, to] = cut_at(text, ',', flag, "a link A,B");
  return {vertex(topology, from), vertex(topology, to)};
}

template <typename Disturbance>
bool contains(const std::vector<Disturbance>& links, int from, int to) {
  return std::ranges::any_of(links, [from, to](const Disturbance& link) {
    return link.from == from && link.to == to;
  });
}

}  // namespace

sim::SimulationOptions simulation_options(const Disturbances& options,
                                          const Topology& topology) {
  sim::SimulationOptions result{.jitter = options.jitter,
                                .seed = options.seed.value_or(0)};
  for (const std::string& text : options.stragglers) {
    const auto [name, value] = cut_at(text, '=', "--straggler", "RANK=FACTOR");
    const auto rank = number<int>(name);
    require(rank.has_value(), "{} got --straggler {}; want RANK=FACTOR",
            kSimulateWhere, text);
    const bool is_new =
        result.stragglers.emplace(*rank, factor(value, "--straggler")).second;
    require(is_new, "{} got two --straggler for rank {}; want one",
            kSimulateWhere, *rank);
  }
  for (const std::string& text : options.slow_links) {
    const auto [ends, value] = cut_at(text, '=', "--slow-link", "A,B=FACTOR");
    const auto [from, to] = link(topology, ends, "--slow-link");
    require(!contains(result.slow_links, from, to),
            "{} got two --slow-link for the link {}; want one", kSimulateWhere,
            ends);
    result.slow_links.push_back({from, to, factor(value, "--slow-link")});
  }
  for (const std::string& text : options.fail_links) {
    const auto [ends, value] = cut_at(text, '@', "--fail-link", "A,B@SECONDS");
    const auto [from, to] = link(topology, ends, "--fail-link");
    const auto seconds = number<double>(value);
    require(seconds.has_value(), "{} got --fail-link {}; want A,B@SECONDS",
            kSimulateWhere, text);
    require(!contains(result.failing_links, from, to),
            "{} got two --fail-link for the link {}; want one", kSimulateWhere,
            ends);
    result.failing_links.push_back({from, to, *seconds});
  }
  return result;
}

}  // namespace ringweave::cli
