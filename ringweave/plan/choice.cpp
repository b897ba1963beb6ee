#include "ringweave/plan/choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::plan {
namespace {

/// Times that differ by less are the same.
constexpr double kTie = 1e-9;

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
                             if (group(a) == 2) return false;
                             if (std::abs(a.seconds() - b.seconds()) >
                                 kTie * std::max(a.seconds(), b.seconds())) {
                               return a.seconds() < b.seconds();
                             }
                             return a.memory_bytes < b.memory_bytes;
                           });
}

void take_first_that_fits(LayerPlan& plan, std::optional<double> limit) {
  for (int i = 0; i < static_cast<int>(plan.candidates.size()); ++i) {
    Candidate& candidate = plan.candidates[i];
    if (candidate.verdict != Verdict::slower) continue;
    if (limit && candidate.memory_bytes > *limit) {
      candidate.verdict = Verdict::too_large;
      candidate.reason =
          fmt::format("needs {}, limit {}", bytes_text(candidate.memory_bytes),
                      bytes_text(*limit));
    } else if (plan.chosen < 0) {
      plan.chosen = i;
      candidate.verdict = Verdict::chosen;
    }
  }
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

void compare_with_chosen(LayerPlan& plan) {
  const Candidate& best = plan.candidates[plan.chosen];
  for (Candidate& candidate : plan.candidates) {
    if (candidate.verdict == Verdict::impossible ||
        candidate.verdict == Verdict::chosen ||
        candidate.verdict == Verdict::too_large) {
      continue;
    }
    const bool whole = candidate.backward.seconds > 0;
    std::string text =
        fmt::format("{:.2f} times the chosen one{}",
                    whole ? candidate.seconds() / best.seconds()
                          : candidate.forward.seconds / best.forward.seconds,
                    whole ? "" : "'s forward");
    if (candidate.verdict == Verdict::not_executable) {
      text = fmt::format("not executable yet{}; {}",
                         whole ? "" : ", forward only", text);
    }
    candidate.reason = std::move(text);
  }
}

}  // namespace

const char* name(Verdict verdict) {
  switch (verdict) {
    case Verdict::chosen:
      return "chosen";
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
  take_first_that_fits(plan, limit);
  if (plan.chosen < 0) none_fits(plan, limit.value_or(0), what);
  compare_with_chosen(plan);
}

}  // namespace ringweave::plan
