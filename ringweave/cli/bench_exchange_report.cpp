#include "ringweave/cli/bench_exchange_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "ringweave/cli/bench_report.h"
#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

/// A share of the cores above which the processor may be what is measured.
constexpr double kBusy = 0.8;

Spread spread_of(const std::vector<ExchangeRun>& runs,
                 double ExchangeRun::*figure) {
  std::vector<double> figures;
  for (const ExchangeRun& run : runs) figures.push_back(run.*figure);
  return spread(figures);
}

double median(const std::vector<ExchangeRun>& runs,
              double ExchangeRun::*figure) {
  return spread_of(runs, figure).median;
}

/// Of each run and the bare one beside it.
Spread over_bare(const ExchangeReport& report) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < report.runs.size(); ++i) {
    ratios.push_back(report.runs[i].seconds / report.bare_seconds[i]);
  }
  return spread(ratios);
}

}  // namespace

Json to_json(const ExchangeReport& report) {
  const Spread seconds = spread_of(report.runs, &ExchangeRun::seconds);
  Json json = {
      {"name", report.of.name},
      {"pass", schedule::name(report.of.pass)},
      {"bytes", report.of.bytes},
      {"seconds", to_json(seconds)},
      {"bare_seconds", to_json(spread(report.bare_seconds))},
      {"over_bare", to_json(over_bare(report))},
      {"busiest_link_bytes", report.busiest_link_bytes},
      {"waiting_share", median(report.runs, &ExchangeRun::waiting_share)},
      {"processor_share", median(report.runs, &ExchangeRun::processor_share)}};
  if (report.bound_seconds) {
    json["bound_seconds"] = *report.bound_seconds;
    json["over_bound"] = seconds.median / *report.bound_seconds;
  }
  if (report.predicted_seconds) {
    json["predicted_seconds"] = *report.predicted_seconds;
    json["predicted_over_measured"] =
        *report.predicted_seconds / seconds.median;
  }
  return json;
}

std::string table(const std::vector<ExchangeReport>& reports) {
  std::string text = fmt::format(
      "{:<26} {:<8} {:>9} {:>17} {:>9} {:>6} {:>9} {:>6} {:>9} {:>5} {:>5}\n",
      "name", "pass", "bytes", "ms (spread)", "bare ms", "/ bare", "bound ms",
      "/", "predicted", "wait", "cpu");
  for (const ExchangeReport& report : reports) {
    const Spread seconds = spread_of(report.runs, &ExchangeRun::seconds);
    const auto milliseconds = [](const std::optional<double>& value) {
      return value ? fmt::format("{:.2f}", 1e3 * *value) : "-";
    };
    const double busy = median(report.runs, &ExchangeRun::processor_share);
    text += fmt::format(
        "{:<26} {:<8} {:>9} {:>17} {:>9.2f} {:>6.3f} {:>9} {:>6} {:>9} "
        "{:>4.0f}% {:>4.0f}%{}\n",
        report.of.name, schedule::name(report.of.pass),
        with_prefix(static_cast<double>(report.of.bytes)) + "B",
        fmt::format("{:.2f} ({:.2f}-{:.2f})", 1e3 * seconds.median,
                    1e3 * seconds.least, 1e3 * seconds.most),
        1e3 * spread(report.bare_seconds).median, over_bare(report).median,
        milliseconds(report.bound_seconds),
        report.bound_seconds
            ? fmt::format("{:.3f}", seconds.median / *report.bound_seconds)
            : "-",
        milliseconds(report.predicted_seconds),
        100 * median(report.runs, &ExchangeRun::waiting_share), 100 * busy,
        busy > kBusy ? " !" : "");
  }
  const bool busy =
      std::ranges::any_of(reports, [](const ExchangeReport& report) {
        return median(report.runs, &ExchangeRun::processor_share) > kBusy;
      });
  if (busy) {
    text += fmt::format(
        "! more than {:.0f} % of the cores: the processor may be what was "
        "measured\n",
        100 * kBusy);
  }
  return text;
}

}  // namespace ringweave::cli
