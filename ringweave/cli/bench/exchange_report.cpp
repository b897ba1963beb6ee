#include "ringweave/cli/bench/exchange_report.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "ringweave/cli/bench/processor_share.h"
#include "ringweave/cli/bench/spread.h"
#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

/// A share of the median rate below which a link is named.
constexpr double kSlowShare = 0.5;

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

std::vector<LinkRate> slow_links(const std::vector<LinkRate>& links,
                                 double median_rate) {
  std::vector<LinkRate> slow;
  std::ranges::copy_if(
      links, std::back_inserter(slow), [&](const LinkRate& link) {
        return link.bytes_per_second < kSlowShare * median_rate;
      });
  return slow;
}

double median_rate(const std::vector<LinkRate>& links) {
  std::vector<double> rates;
  for (const LinkRate& link : links) rates.push_back(link.bytes_per_second);
  return spread(rates).median;
}

Json as_json(const ExchangeReport& report) {
  const Spread seconds = spread_of(report.runs, &ExchangeRun::seconds);
  Json links = Json::array();
  for (const ExchangeReport::Link& link : report.links) {
    links.push_back(
        {{"from", link.from}, {"to", link.to}, {"bytes", link.bytes}});
  }
  Json json = {
      {"name", report.of.name},
      {"pass", schedule::name(report.of.pass)},
      {"bytes", report.of.bytes},
      {"seconds", to_json(seconds)},
      {"busiest_link_bytes", report.busiest_link_bytes()},
      {"links", std::move(links)},
      {"waiting_share", median(report.runs, &ExchangeRun::waiting_share)},
      {"processor_share", median(report.runs, &ExchangeRun::processor_share)}};
  if (!report.bare_seconds.empty()) {
    json["bare_seconds"] = to_json(spread(report.bare_seconds));
    json["over_bare"] = to_json(over_bare(report));
  }
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value) json[std::string(name) + "_seconds"] = *value;
    return value.has_value();
  };
  if (add("bound", report.bound_seconds)) {
    json["over_bound"] = seconds.median / *report.bound_seconds;
  }
  if (add("predicted", report.predicted_seconds)) {
    json["predicted_over_measured"] =
        *report.predicted_seconds / seconds.median;
  }
  add("cost_model", report.cost_model_seconds);
  if (!report.emulated) return json;
  add("compute", report.emulated->seconds);
  add("compute_step", report.emulated->step_seconds);
  add("transfer", report.emulated->transfer_seconds);
  if (add("overlapped", report.emulated->overlapped_seconds())) {
    json["over_overlapped"] =
        seconds.median / *report.emulated->overlapped_seconds();
  }
  return json;
}

std::string milliseconds(const std::optional<double>& seconds) {
  return seconds ? fmt::format("{:.2f}", 1e3 * *seconds) : "-";
}

std::string ratio(double seconds, const std::optional<double>& over) {
  return over ? fmt::format("{:.3f}", seconds / *over) : "-";
}

/// A row, or without a report the head.
std::string row(const ExchangeReport* report, bool emulated) {
  std::string text;
  const auto cell = [&](int width, const char* head, const auto& value) {
    text += fmt::format(" {:>{}}", report ? value() : std::string(head), width);
  };
  const auto seconds = [&] {
    return spread_of(report->runs, &ExchangeRun::seconds);
  };
  const auto percent = [&](double ExchangeRun::*share) {
    return fmt::format("{:.0f}%", 100 * median(report->runs, share));
  };
  text = fmt::format("{:<26} {:<8}", report ? report->of.name : "name",
                     report ? schedule::name(report->of.pass) : "pass");
  cell(9, "bytes", [&] {
    return with_prefix(static_cast<double>(report->of.bytes)) + "B";
  });
  cell(24, "ms (spread)", [&] {
    return fmt::format("{:.2f} ({:.2f}-{:.2f})", 1e3 * seconds().median,
                       1e3 * seconds().least, 1e3 * seconds().most);
  });
  if (emulated) {
    cell(9, "compute", [&] { return milliseconds(report->emulated->seconds); });
    cell(9, "transfer",
         [&] { return milliseconds(report->emulated->transfer_seconds); });
    cell(10, "overlapped",
         [&] { return milliseconds(report->emulated->overlapped_seconds()); });
    cell(6, "/", [&] {
      return ratio(seconds().median, report->emulated->overlapped_seconds());
    });
  } else {
    cell(9, "bare ms",
         [&] { return milliseconds(spread(report->bare_seconds).median); });
    cell(6, "/ bare",
         [&] { return fmt::format("{:.3f}", over_bare(*report).median); });
    cell(9, "bound ms", [&] { return milliseconds(report->bound_seconds); });
    cell(6, "/",
         [&] { return ratio(seconds().median, report->bound_seconds); });
  }
  cell(9, "predicted", [&] { return milliseconds(report->predicted_seconds); });
  cell(5, "wait", [&] { return percent(&ExchangeRun::waiting_share); });
  cell(5, "cpu", [&] { return percent(&ExchangeRun::processor_share); });
  const bool busy =
      report && median(report->runs, &ExchangeRun::processor_share) > kBusy;
  return text + (busy ? " !\n" : "\n");
}

}  // namespace

std::optional<double> EmulatedCompute::overlapped_seconds() const {
  if (!transfer_seconds) return std::nullopt;
  const double step = std::max(step_seconds, *transfer_seconds / steps);
  return std::max(seconds - alone_seconds, *transfer_seconds) +
         (alone_seconds > 0 ? alone_seconds : step);
}

std::int64_t ExchangeReport::busiest_link_bytes() const {
  std::int64_t most = 0;
  for (const Link& link : links) most = std::max(most, link.bytes);
  return most;
}

Json to_json(const ExchangeRuns& runs) {
  Json json = {{"cases", Json::array()}};
  for (const ExchangeReport& report : runs.reports) {
    json["cases"].push_back(as_json(report));
  }
  if (!runs.links) return json;
  const double median = median_rate(runs.links->rates);
  json["median_link_bytes_per_second"] = median;
  json["slow_links"] = nullptr;
  if (runs.links->busy) return json;
  json["slow_links"] = Json::array();
  for (const LinkRate& link : slow_links(runs.links->rates, median)) {
    json["slow_links"].push_back({{"from", link.from},
                                  {"to", link.to},
                                  {"bytes_per_second", link.bytes_per_second}});
  }
  return json;
}

std::string text(const ExchangeRuns& runs) {
  const bool emulated = std::ranges::any_of(
      runs.reports,
      [](const auto& report) { return report.emulated.has_value(); });
  std::string text = row(nullptr, emulated);
  for (const ExchangeReport& report : runs.reports) {
    text += row(&report, emulated);
  }
  if (std::ranges::any_of(runs.reports, [](const ExchangeReport& report) {
        return median(report.runs, &ExchangeRun::processor_share) > kBusy;
      })) {
    text += busy_note();
  }
  if (!runs.links) return text;
  if (runs.links->busy) {
    return text + "links were not compared, as the processor was busy\n";
  }
  const double median = median_rate(runs.links->rates);
  for (const LinkRate& link : slow_links(runs.links->rates, median)) {
    text += fmt::format(
        "slow link: rank {} to rank {} has {}B/s; the median link has {}B/s\n",
        link.from, link.to, with_prefix(link.bytes_per_second),
        with_prefix(median));
  }
  return text;
}

}  // namespace ringweave::cli
