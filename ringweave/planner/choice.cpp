#include "ringweave/planner/choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

/// What differs by less differs by rounding only.
constexpr double kRounding = 1 + 1e-9;

std::string bytes_text(double bytes) {
  return bytes >= 1e9 ? fmt::format("{:.3g} GB", bytes / 1e9)
                      : fmt::format("{:.3g} MB", bytes / 1e6);
}

// Fastest first, then what has no backward, then the impossible.
void sort(LayerPlan& plan) {
  const auto group = [](const Candidate& candidate) {
    if (candidate.verdict == Verdict::impossible) return 2;
    return candidate.backward.seconds > 0 ? 0 : 1;
  };
  std::ranges::stable_sort(plan.candidates,
                           [&](const Candidate& a, const Candidate& b) {
                             if (group(a) != group(b))
                               return group(a) < group(b);
                             return group(a) < 2 && a.seconds() < b.seconds();
                           });
}

void mark_too_large(LayerPlan& plan, double limit) {
  for (Candidate& candidate : plan.candidates) {
    if (candidate.verdict != Verdict::slower) continue;
    if (candidate.memory_bytes <= limit) continue;
    candidate.verdict = Verdict::too_large;
    candidate.reason =
        fmt::format("needs {}, limit {}", bytes_text(candidate.memory_bytes),
                    bytes_text(limit));
  }
}

/// Whether `a` is the better one of two that take equally long.
bool is_better(const Candidate& a, const Candidate& b) {
  if (a.link_seconds() * kRounding < b.link_seconds()) return true;
  if (b.link_seconds() * kRounding < a.link_seconds()) return false;
  return a.memory_bytes * kRounding < b.memory_bytes;
}

// Of sorted candidates; its place is before all that equal it.
void take_best(LayerPlan& plan) {
  auto& candidates = plan.candidates;
  const auto fits = [](const Candidate& candidate) {
    return candidate.verdict == Verdict::slower;
  };
  const auto fastest = std::ranges::find_if(candidates, fits);
  if (fastest == candidates.end()) return;
  const double limit = kEqual * fastest->seconds();
  auto best = fastest;
  for (auto it = fastest; it != candidates.end(); ++it) {
    if (!fits(*it) || it->seconds() > limit) continue;
    it->verdict = Verdict::equal;
    if (is_better(*it, *best)) best = it;
  }
  best->verdict = Verdict::chosen;
  std::rotate(fastest, best, best + 1);
  plan.chosen = static_cast<int>(fastest - candidates.begin());
}

[[noreturn]] void none_fits(const LayerPlan& plan, double limit,
                            const char* what) {
  double least = std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : plan.candidates) {
    if (candidate.verdict == Verdict::too_large) {
      least = std::min(least, candidate.memory_bytes);
    }
  }
  throw NoSolution(fmt::format(
      "[plan] got a memory limit of {}; want at least {}, which the smallest "
      "{} needs",
      bytes_text(limit), bytes_text(least), what));
}

std::string ratio_text(double ratio) {
  return ratio < 9.995 ? fmt::format("{:.2f}", ratio)
                       : fmt::format("{:.0f}", ratio);
}

std::string why_equal(const Candidate& candidate, const Candidate& best) {
  if (candidate.link_seconds() > best.link_seconds() * kRounding) {
    return best.link_seconds() > 0
               ? fmt::format(
                     "{} times as long on its busiest link",
                     ratio_text(candidate.link_seconds() / best.link_seconds()))
               : "longer on its busiest link";
  }
  return candidate.memory_bytes > best.memory_bytes * kRounding
             ? "more memory"
             : "the same in all that is compared";
}

std::string why_chosen(const LayerPlan& plan) {
  const Candidate& best = plan.candidates[plan.chosen];
  const auto equal =
      std::ranges::count(plan.candidates, Verdict::equal, &Candidate::verdict);
  const double computing =
      best.forward.compute_seconds + best.backward.compute_seconds;
  std::string text = best.seconds() <= computing * kEqual
                         ? "compute hides its transfers"
                         : "fastest";
  if (equal > 0) {
    text += fmt::format(
        "; of {} equally fast ones the least time on the busiest link",
        equal + 1);
  }
  return text;
}

void explain(LayerPlan& plan) {
  Candidate& best = plan.candidates[plan.chosen];
  best.reason = why_chosen(plan);
  for (Candidate& candidate : plan.candidates) {
    if (candidate.verdict == Verdict::equal) {
      candidate.reason = why_equal(candidate, best);
    } else if (candidate.verdict == Verdict::slower ||
               candidate.verdict == Verdict::not_executable) {
      const bool whole = candidate.backward.seconds > 0;
      std::string text = fmt::format(
          "{} times the chosen one{}",
          ratio_text(whole ? candidate.seconds() / best.seconds()
                           : candidate.forward.seconds / best.forward.seconds),
          whole ? "" : "'s forward");
      if (candidate.verdict == Verdict::not_executable) {
        text = fmt::format("not executable yet{}; {}",
                           whole ? "" : ", forward only", text);
      }
      candidate.reason = std::move(text);
    }
  }
}

}  // namespace

const char* name(Verdict verdict) {
  switch (verdict) {
    case Verdict::chosen:
      return "chosen";
    case Verdict::equal:
      return "equal";
    case Verdict::slower:
      return "slower";
    case Verdict::too_large:
      return "too large";
    case Verdict::not_executable:
      return "not executable";
    case Verdict::impossible:
      return "impossible";
  }
  throw InternalError("bug in ringweave: a verdict without a name");
}

void choose(LayerPlan& plan, std::optional<double> limit, const char* what) {
  if (plan.layers == 0) return;
  sort(plan);
  if (limit) mark_too_large(plan, *limit);
  take_best(plan);
  if (plan.chosen < 0) none_fits(plan, limit.value_or(0), what);
  explain(plan);
}

}  // namespace ringweave::planner
