#include "ringweave/cli/bench/model_report.h"

#include <functional>
#include <utility>

#include <fmt/format.h>

#include "ringweave/cli/bench/processor_share.h"
#include "ringweave/cli/bench/spread.h"
#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

using train::SpentByAll;

double step_seconds(const SpentByAll& step) { return step.seconds; }

/// A part of a step: its name in JSON and in the table, and its share of the
/// step's time.
struct Part {
  const char* field;
  const char* head;
  double (*share)(const SpentByAll&);
};

double other_waiting(const SpentByAll& step) {
  return step.waiting.mean - step.softmax_waiting.mean -
         step.linear_waiting.mean - step.gradient_waiting.mean;
}

/// Those of one step add up to it; their medians, nearly.
constexpr Part kParts[] = {
    {"compute_seconds", "compute",
     [](const SpentByAll& step) {
       return 1 - step.waiting.mean - step.optimizer.mean;
     }},
    {"softmax_waiting_seconds", "softmax",
     [](const SpentByAll& step) { return step.softmax_waiting.mean; }},
    {"linear_waiting_seconds", "linear",
     [](const SpentByAll& step) { return step.linear_waiting.mean; }},
    {"gradient_waiting_seconds", "gradient",
     [](const SpentByAll& step) { return step.gradient_waiting.mean; }},
    {"other_waiting_seconds", "other", other_waiting},
    {"optimizer_seconds", "optimizer",
     [](const SpentByAll& step) { return step.optimizer.mean; }},
};

Spread spread_of(const ModelReport& report,
                 const std::function<double(const SpentByAll&)>& figure) {
  std::vector<double> figures;
  for (const SpentByAll& step : report.steps) figures.push_back(figure(step));
  return spread(std::move(figures));
}

Spread spread_of(const ModelReport& report, const Part& part) {
  return spread_of(report, [&](const SpentByAll& step) {
    return part.share(step) * step.seconds;
  });
}

double tokens_per_second(const ModelReport& report) {
  return static_cast<double>(report.tokens) /
         spread_of(report, step_seconds).median;
}

std::string name_or_none(const std::string& name) {
  return name.empty() ? "-" : name;
}

}  // namespace

Json to_json(const ModelReport& report) {
  Json json = {{"softmax", report.softmax},
               {"linear", report.linear},
               {"seq_len", report.seq_len},
               {"seconds", to_json(spread_of(report, step_seconds))},
               {"tokens_per_second", tokens_per_second(report)},
               {"bytes_sent", report.steps.front().bytes},
               {"peak_memory_bytes", nullptr},
               {"processor_share", report.processor_share}};
  if (report.peak_memory_bytes) {
    json["peak_memory_bytes"] = *report.peak_memory_bytes;
  }
  if (report.loss) json["loss"] = *report.loss;
  add_to(json, report.alone);
  if (report.alone.predicted_seconds) {
    json["predicted_over_measured"] = *report.alone.predicted_seconds /
                                      spread_of(report, step_seconds).median;
  }
  for (const Part& part : kParts) {
    json[part.field] = to_json(spread_of(report, part));
  }
  return json;
}

std::string table(const std::vector<ModelReport>& reports) {
  std::string text = fmt::format("{:<24} {:<22} {:>8} {:>24}", "softmax",
                                 "linear", "seq_len", "ms (spread)");
  for (const Part& part : kParts) text += fmt::format(" {:>9}", part.head);
  text += heads(reports.front().alone, {"bare", "bound", "predicted"}, 9);
  text += fmt::format(" {:>9} {:>9} {:>9} {:>8} {:>5}\n", "tokens/s", "sent",
                      "memory", "loss", "cpu");
  bool busy = false;
  for (const ModelReport& report : reports) {
    const Spread seconds = spread_of(report, step_seconds);
    text +=
        fmt::format("{:<24} {:<22} {:>8} {:>24}", name_or_none(report.softmax),
                    name_or_none(report.linear), report.seq_len,
                    fmt::format("{:.1f} ({:.1f}-{:.1f})", 1e3 * seconds.median,
                                1e3 * seconds.least, 1e3 * seconds.most));
    for (const Part& part : kParts) {
      text += fmt::format(" {:>9.1f}", 1e3 * spread_of(report, part).median);
    }
    text += cells(report.alone, 9);
    busy = busy || report.processor_share > kBusy;
    text += fmt::format(
        " {:>9} {:>9} {:>9} {:>8} {:>4.0f}%{}\n",
        with_prefix(tokens_per_second(report)),
        with_prefix(static_cast<double>(report.steps.front().bytes)) + "B",
        report.peak_memory_bytes
            ? with_prefix(static_cast<double>(*report.peak_memory_bytes)) + "B"
            : "-",
        report.loss ? fmt::format("{:.4f}", *report.loss) : "-",
        100 * report.processor_share,
        report.processor_share > kBusy ? " !" : "");
  }
  return text + (busy ? busy_note() : "");
}

}  // namespace ringweave::cli
