#include "ringweave/discovery/frame.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/discovery/evidence.h"
#include "ringweave/topology/expand.h"

namespace ringweave::discovery {
namespace {

using topology::Link;
using topology::Topology;

/// Links of a frame that are taken to be alike: class, rate, latency.
using Kind = std::tuple<std::string, double, double>;

Kind kind_of(const Link& link) {
  return {link.link_class, link.bytes_per_second, link.latency_seconds};
}

class Fitter {
 public:
  Fitter(const Measurements& measurements, const Topology& frame)
      : m_(measurements), frame_(frame), rates_(frame.links().size(), 0) {
    for (Rank from = 0; from < frame.ranks(); ++from) {
      routes_.push_back(frame.routes(from));
    }
    for (const auto& timed : m_.patterns) see(timed);
    find_latencies();
  }

  /// The frame's links with measured figures: a rate for each kind, or for each
  /// link.
  std::vector<Link> links(bool by_kind) const {
    std::map<Kind, std::vector<double>> of_kind;
    for (std::size_t i = 0; i < rates_.size(); ++i) {
      if (rates_[i] > 0)
        of_kind[kind_of(frame_.links()[i])].push_back(rates_[i]);
    }
    std::vector<Link> links = frame_.links();
    for (std::size_t i = 0; i < links.size(); ++i) {
      const Kind kind = kind_of(links[i]);
      if (!of_kind.contains(kind)) continue;
      const bool own = !by_kind && rates_[i] > 0;
      links[i].bytes_per_second =
          own ? rates_[i] : figure_of(of_kind.at(kind)).median;
      links[i].latency_seconds = latencies_.at(kind);
    }
    return links;
  }

  /// Classes of links of which no route takes any like them.
  std::set<std::string> unused() const {
    std::set<std::string> classes;
    for (const Link& link : frame_.links()) {
      if (!latencies_.contains(kind_of(link))) classes.insert(link.link_class);
    }
    return classes;
  }

 private:
  /// Takes note of what went through each link.
  void see(const Measurements::Timed& timed) {
    std::map<int, int> messages;  // capacity → how many
    double trip = 0;
    for (const auto& [from, to] : timed.pattern.pairs) {
      trip = std::max(trip, 2 * m_.latency[from][to].median);
      for (const int link : routes_[from][to]) {
        ++messages[capacity_of(frame_, link)];
      }
    }
    const double whole = timed.seconds.back().median;
    const double seconds = trip < whole ? whole - trip : whole;
    for (const auto& [from, to] : timed.pattern.pairs) {
      for (const int link : routes_[from][to]) {
        const double bytes = static_cast<double>(m_.sizes.back()) *
                             messages[capacity_of(frame_, link)];
        rates_[link] = std::max(rates_[link], bytes / seconds);
      }
    }
  }

  /// Routes of few links tell the latencies of their kinds; what is then left
  /// of longer ones is that of the others, in equal parts.
  void find_latencies() {
    std::map<std::size_t, std::vector<RankPair>> by_length;
    for (const auto& [from, to] : pairs_of(frame_.ranks())) {
      by_length[routes_[from][to].size()].emplace_back(from, to);
    }
    for (const auto& [length, pairs] : by_length) {
      std::map<Kind, std::vector<double>> found;
      for (const auto& [from, to] : pairs) {
        double left = m_.latency[from][to].median;
        std::vector<Kind> unknown;
        for (const int link : routes_[from][to]) {
          const Kind kind = kind_of(frame_.links()[link]);
          const auto known = latencies_.find(kind);
          if (known == latencies_.end()) {
            unknown.push_back(kind);
          } else {
            left -= known->second;
          }
        }
        for (const Kind& kind : unknown) {
          found[kind].push_back(std::max(left, 0.0) /
                                static_cast<double>(unknown.size()));
        }
      }
      for (auto& [kind, values] : found) {
        latencies_[kind] = figure_of(std::move(values)).median;
      }
    }
  }

  const Measurements& m_;
  const Topology& frame_;
  std::vector<std::vector<std::vector<int>>> routes_;
  std::vector<double> rates_;  ///< by link; 0: no route takes it
  std::map<Kind, double> latencies_;
};

Topology::Spec spec_of(const Topology& frame) {
  Topology::Spec spec;
  for (int v = 0; v < frame.vertices(); ++v) {
    spec.vertices.push_back(frame.vertex(v));
  }
  spec.ranks_forward = frame.ranks_forward();
  return spec;
}

/// The fabric of `frame` with the figures of `links`, which are its own with
/// one rate for each kind.
topology::Fabric refitted(topology::Fabric fabric,
                          const std::vector<Link>& links) {
  double nic_latency = 0;
  for (const Link& link : links) {
    const bool port = link.link_class == "port";
    if (port || link.link_class == "link") {
      fabric.link_bytes_per_second = link.bytes_per_second;
      fabric.link_latency_seconds = link.latency_seconds * (port ? 2 : 1);
    }
    if (link.link_class == "nic") {
      fabric.nic_bytes_per_second = link.bytes_per_second;
    }
    if (link.link_class == "nic" || link.link_class == "to_nic") {
      nic_latency = std::max(nic_latency, link.latency_seconds);
    }
  }
  // Of a route: to_nic, nic, nic, to_nic.
  fabric.nic_latency_seconds = 4 * nic_latency;
  return fabric;
}

}  // namespace

Classification fit_frame(const Measurements& m, const Topology& frame) {
  check(m);
  require(frame.ranks() == m.ranks,
          "[probe] got a frame of {} ranks for {} that were measured; want as "
          "many",
          frame.ranks(), m.ranks);
  const Fitter fitter(m, frame);
  Topology::Spec spec = spec_of(frame);
  spec.links = fitter.links(true);
  if (frame.fabric()) {
    spec = topology::expanded(refitted(*frame.fabric(), spec.links));
  }
  Mismatch mismatch = worst_mismatch(m, Topology(spec));
  if (mismatch.factor > kTolerance) {
    spec = spec_of(frame);
    spec.links = fitter.links(false);
    mismatch = worst_mismatch(m, Topology(spec));
  }
  std::string reason = doubt_of(m);
  if (reason.empty()) {
    reason = mismatch.factor <= kTolerance
                 ? fmt::format(
                       "every measurement is within {:.0f} % of the "
                       "links of {}",
                       100 * (mismatch.factor - 1), frame.name())
                 : fmt::format("the links of {} don't explain it: {}",
                               frame.name(), mismatch.text);
  }
  if (const auto unused = fitter.unused(); !unused.empty()) {
    reason += fmt::format("; links of {} that no route takes keep their rates",
                          fmt::join(unused, ", "));
  }
  const std::optional<topology::Fabric> fabric = spec.fabric;
  spec.name = "measured frame";
  spec.source = "ringweave topology probe, on the links of " + frame.name();
  spec.measured = {
      {"kind", "frame"},
      {"reason", reason},
      {"frame", {{"name", frame.name()}, {"source", frame.source()}}}};
  spec.measured.update(to_json(m));
  return {Topology(std::move(spec)),
          fabric ? std::optional(fabric->kind) : std::nullopt,
          std::move(reason)};
}

}  // namespace ringweave::discovery
