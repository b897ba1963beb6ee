#include "ringweave/cli/plan_report.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/cli/mask_option.h"
#include "ringweave/cli/progress.h"

namespace ringweave::cli {
namespace {

using planner::Candidate;
using planner::LayerPlan;
using planner::Verdict;

constexpr const char* kLegend =
    "* by formula; the others event by event. busiest link: how long it is in "
    "use at its full rate, in ms.\nmemory: a rank's keys, values, states and "
    "buffers at their peak, without weights and activations.\n";
constexpr const char* kSaving =
    "A strategy that sends fewer bytes need not be faster: on a full mesh the "
    "time bound stays C/B, a shard over one link, since some rank needs every "
    "key.\n";

/// Without the unit, which stands above the table.
std::string milliseconds(double seconds) {
  // From 10 000 ms on, four digits would need an exponent.
  return seconds < 9.9995 ? fmt::format("{:.4g}", 1e3 * seconds)
                          : fmt::format("{:.0f}", 1e3 * seconds);
}

std::string bytes_text(const planner::LinkClassBytes& forward,
                       const planner::LinkClassBytes& backward) {
  std::vector<std::string> texts;
  for (const auto& [name, of_class] : forward) {
    double total = of_class.total;
    if (const auto found = backward.find(name); found != backward.end()) {
      total += found->second.total;
    }
    if (total > 0)
      texts.push_back(fmt::format("{} {}B", name, with_prefix(total)));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string ratio(const Candidate& candidate, double bound) {
  if (!candidate.is_bounded || candidate.backward.seconds <= 0 || bound <= 0) {
    return "-";
  }
  return fmt::format("{:.3f}", candidate.seconds() / bound);
}

std::vector<std::string> row(const Candidate& candidate, double bound) {
  if (candidate.verdict == Verdict::impossible) {
    return {candidate.name,  "-", "-", "-", "-", "-", "-", "impossible",
            candidate.reason};
  }
  const bool whole = candidate.backward.seconds > 0;
  return {candidate.name + (candidate.by_formula ? " *" : ""),
          milliseconds(candidate.forward.seconds),
          whole ? milliseconds(candidate.backward.seconds) : "-",
          ratio(candidate, bound),
          candidate.is_bounded ? milliseconds(candidate.link_seconds()) : "-",
          bytes_text(candidate.forward.bytes, candidate.backward.bytes),
          with_prefix(candidate.memory_bytes) + "B",
          planner::name(candidate.verdict),
          candidate.reason};
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& cells : rows) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      widths[i] = std::max(widths[i], cells[i].size());
    }
  }
  std::string text;
  for (const auto& cells : rows) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const bool figure = i >= 1 && i <= 4;
      line += figure ? fmt::format("{:>{}}  ", cells[i], widths[i])
                     : fmt::format("{:<{}}  ", cells[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string layer_table(const std::string& kind, const LayerPlan& plan) {
  if (plan.layers == 0) return "";
  std::string text = fmt::format(
      "\n{} layers ({}), per layer in ms; bound: forward {}, backward {}; "
      "forward's transfers alone: {}\n\n",
      kind, plan.layers, milliseconds(plan.forward_bound),
      milliseconds(plan.backward_bound), milliseconds(plan.exchange_bound));
  std::vector<std::vector<std::string>> rows = {
      {kind == "softmax" ? "strategy" : "exchange", "forward", "backward",
       "x bound", "busiest link", "bytes by link class", "memory", "verdict",
       "why"}};
  for (const Candidate& candidate : plan.candidates) {
    rows.push_back(row(candidate, plan.bound()));
  }
  return text + aligned(rows);
}

bool is_mesh(const planner::Machine& machine) {
  return machine.fabric && machine.fabric->kind == topology::FabricKind::mesh;
}

std::string choice(const std::string& kind, const LayerPlan& plan) {
  if (plan.layers == 0) return "";
  const Candidate& chosen = plan.candidates[plan.chosen];
  return fmt::format(
      "{}: {} ({}), forward {} + backward {}, {} times the bound of {}\n", kind,
      chosen.name, chosen.reason, time_text(chosen.forward.seconds),
      time_text(chosen.backward.seconds), ratio(chosen, plan.bound()),
      time_text(plan.bound()));
}

Json as_json(const planner::PassCost& cost) {
  Json bytes = Json::object();
  for (const auto& [name, of_class] : cost.bytes) {
    bytes[name] = {{"total", of_class.total}, {"busiest", of_class.busiest}};
  }
  return {{"seconds", cost.seconds},
          {"compute_seconds", cost.compute_seconds},
          {"link_seconds", cost.link_seconds},
          {"link_bytes", std::move(bytes)}};
}

Json as_json(const LayerPlan& plan) {
  Json candidates = Json::array();
  for (const Candidate& candidate : plan.candidates) {
    Json json = {{"name", candidate.name},
                 {"verdict", planner::name(candidate.verdict)},
                 {"reason", candidate.reason}};
    if (candidate.verdict != Verdict::impossible) {
      json["forward"] = as_json(candidate.forward);
      json["backward"] = candidate.backward.seconds > 0
                             ? as_json(candidate.backward)
                             : Json(nullptr);
      json["memory_bytes"] = candidate.memory_bytes;
      json["by_formula"] = candidate.by_formula;
    }
    candidates.push_back(std::move(json));
  }
  Json json = {{"layers", plan.layers}};
  if (plan.layers == 0) return json;
  json["chosen"] = plan.candidates[plan.chosen].name;
  json["bound"] = {{"forward_seconds", plan.forward_bound},
                   {"backward_seconds", plan.backward_bound},
                   {"exchange_seconds", plan.exchange_bound}};
  json["ratio"] =
      plan.bound() > 0
          ? Json(plan.candidates[plan.chosen].seconds() / plan.bound())
          : Json(nullptr);
  json["candidates"] = std::move(candidates);
  return json;
}

}  // namespace

std::string table(const PlanReport& report) {
  const planner::PlanRequest& request = report.request;
  const planner::ModelShape& shape = request.shape;
  std::string text = fmt::format(
      "{} ({} ranks), {} layers of {} heads ({} of keys and values) x {}, {}, "
      "{} x {} tokens, {}, {}, device table {}\n",
      request.machine.name, request.machine.ranks(), shape.layers, shape.heads,
      shape.kv_heads, shape.head_dim, name(shape.type), shape.batch,
      request.layout.tokens(), request.mask.text(), report.layout,
      request.device_table.name);
  text += layer_table("softmax", report.planned.softmax);
  text += layer_table("linear", report.planned.linear);
  text += "\n";
  text += kLegend;
  if (is_mesh(request.machine)) text += kSaving;
  text += "\n";
  text += choice("softmax", report.planned.softmax);
  text += choice("linear", report.planned.linear);
  text += fmt::format("attention of a step: {}\n",
                      time_text(report.planned.step_seconds));
  return text;
}

Json to_json(const PlanReport& report) {
  const planner::PlanRequest& request = report.request;
  return {{"topology", request.machine.name},
          {"ranks", request.machine.ranks()},
          {"model", planner::to_json(request.shape)},
          {"seq_len", request.layout.tokens()},
          {"layout", report.layout},
          {"mask", request.mask.to_json()},
          {"device_table", request.device_table.name},
          {"softmax", as_json(report.planned.softmax)},
          {"linear", as_json(report.planned.linear)},
          {"step_seconds", report.planned.step_seconds}};
}

}  // namespace ringweave::cli
