#include "ringweave/cli/bench/pair_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "ringweave/cli/bench/spread.h"
#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

struct Summary {
  Spread split;
  Spread whole;
  Spread ratio;
};

Summary summarise(const BenchReport& report) {
  std::vector<double> split;
  std::vector<double> whole;
  std::vector<double> ratio;
  for (const BenchReport::Pair& pair : report.pairs) {
    split.push_back(pair.split_seconds);
    whole.push_back(pair.whole_seconds);
    ratio.push_back(pair.split_seconds / pair.whole_seconds);
  }
  return {spread(split), spread(whole), spread(ratio)};
}

/// ", buffers of up to 65536 bytes per rank, as planned"
std::string buffers_text(const BenchReport& report) {
  if (report.buffers.empty()) return "";
  const auto most = std::max_element(
      report.buffers.begin(), report.buffers.end(),
      [](const auto& a, const auto& b) { return a.peak_bytes < b.peak_bytes; });
  const auto wrong = std::count_if(
      report.buffers.begin(), report.buffers.end(),
      [](const auto& rank) { return rank.peak_bytes != rank.planned_bytes; });
  return fmt::format(
      "; buffers of up to {} bytes per rank, {}", most->peak_bytes,
      wrong == 0 ? "as planned"
                 : fmt::format("NOT AS PLANNED on {} ranks", wrong));
}

/// "1048576 bytes on each link, as planned", or the extremes.
std::string bytes_line(const BenchReport& report) {
  if (report.links.empty()) return "nothing sent";
  const auto [least, most] = std::minmax_element(
      report.links.begin(), report.links.end(),
      [](const auto& a, const auto& b) { return a.sent_bytes < b.sent_bytes; });
  const auto wrong = std::count_if(
      report.links.begin(), report.links.end(),
      [](auto& link) { return link.sent_bytes != link.planned_bytes; });
  return fmt::format(
      "{} bytes per link, {}",
      least->sent_bytes == most->sent_bytes
          ? fmt::format("{}", most->sent_bytes)
          : fmt::format("{} to {}", least->sent_bytes, most->sent_bytes),
      wrong == 0 ? "as planned"
                 : fmt::format("NOT AS PLANNED on {} links", wrong));
}

}  // namespace

Json to_json(const BenchReport& report, std::int64_t tokens) {
  const Summary summary = summarise(report);
  Json links = Json::array();
  for (const BenchReport::Link& link : report.links) {
    links.push_back({{"from", link.from},
                     {"to", link.to},
                     {"sent_bytes", link.sent_bytes},
                     {"planned_bytes", link.planned_bytes}});
  }
  Json buffers = Json::array();
  for (const BenchReport::Buffers& rank : report.buffers) {
    buffers.push_back({{"rank", rank.rank},
                       {"peak_bytes", rank.peak_bytes},
                       {"planned_bytes", rank.planned_bytes}});
  }
  Json json = {
      {"name", report.name},
      {"ratio", to_json(summary.ratio)},
      {"split_seconds", to_json(summary.split)},
      {"whole_seconds", to_json(summary.whole)},
      {"tokens_per_second", static_cast<double>(tokens) / summary.split.median},
      {"max_error", report.max_error},
      {"links", std::move(links)},
      {"buffers", std::move(buffers)}};
  add_to(json, report.alone);
  return json;
}

std::string table(const std::vector<BenchReport>& reports,
                  std::int64_t tokens) {
  std::string text = fmt::format("{:<24} {:>10} {:>10} {:>18} {:>12} {:>10}",
                                 "strategy", "split ms", "whole ms",
                                 "ratio (spread)", "tokens/s", "max error");
  text +=
      heads(reports.front().alone, {"bare ms", "bound ms", "predicted"}, 10);
  text += "\n";
  for (const BenchReport& report : reports) {
    const Summary summary = summarise(report);
    text += fmt::format(
        "{:<24} {:>10.1f} {:>10.1f} {:>18} {:>12} {:>10.1e}", report.name,
        1e3 * summary.split.median, 1e3 * summary.whole.median,
        fmt::format("{:.3f} ({:.2f}-{:.2f})", summary.ratio.median,
                    summary.ratio.least, summary.ratio.most),
        with_prefix(static_cast<double>(tokens) / summary.split.median),
        report.max_error);
    text += cells(report.alone, 10) + "\n";
  }
  for (const BenchReport& report : reports) {
    text += fmt::format("{}: {}{}\n", report.name, bytes_line(report),
                        buffers_text(report));
  }
  return text;
}

}  // namespace ringweave::cli
