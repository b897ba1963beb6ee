#include "ringweave/cli/progress.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

namespace ringweave::cli {
namespace {

constexpr int kBarWidth = 24;
constexpr int kLines = 20;
constexpr const char* kClearLine = "\r\033[K";

}  // namespace

Progress::Progress(std::string name, std::int64_t total, Style style,
                   std::FILE* stream)
    : name_(std::move(name)), total_(total), style_(style), stream_(stream) {}

Progress::~Progress() {
  if (open_) fmt::print(stream_, "\n");
}

Progress::Style Progress::style_for(std::FILE* stream) {
  return isatty(fileno(stream)) != 0 ? Style::bar : Style::lines;
}

bool Progress::due(std::int64_t done) const {
  const std::int64_t every = (total_ + kLines - 1) / kLines;
  return done == 1 || done == total_ ||
         done % std::max<std::int64_t>(every, 1) == 0;
}

void Progress::update(std::int64_t done, const std::string& facts) {
  if (style_ == Style::bar) {
    fmt::print(stream_, "{}{} {} {}/{}  {}", kClearLine, name_,
               bar(done, total_, kBarWidth), done, total_, facts);
    open_ = true;
  } else if (style_ == Style::lines && due(done)) {
    fmt::print(stream_, "{} {}/{}  {}\n", name_, done, total_, facts);
  }
  std::fflush(stream_);
}

void Progress::note(const std::string& text) {
  if (style_ == Style::off) return;
  fmt::print(stream_, "{}{}\n", open_ ? kClearLine : "", text);
  open_ = false;
  std::fflush(stream_);
}

std::string bar(std::int64_t done, std::int64_t total, int width) {
  const std::int64_t filled =
      total > 0 ? std::clamp<std::int64_t>(done * width / total, 0, width)
                : width;
  return fmt::format("[{}{}]", std::string(filled, '#'),
                     std::string(width - filled, '-'));
}

std::string with_prefix(double number) {
  constexpr const char* kPrefixes[] = {"", " k", " M", " G", " T"};
  std::size_t prefix = 0;
  while (std::abs(number) >= 999.5 && prefix + 1 < std::size(kPrefixes)) {
    number /= 1000;
    ++prefix;
  }
  const int decimals = prefix == 0 || std::abs(number) >= 99.95 ? 0
                       : std::abs(number) >= 9.995              ? 1
                                                                : 2;
  return fmt::format("{:.{}f}{}", number, decimals, kPrefixes[prefix]);
}

std::string time_text(double seconds) {
  if (seconds < 0.99995) return fmt::format("{:.4g} ms", 1e3 * seconds);
  // From 10 000 s on, four digits would need an exponent.
  return seconds < 9999.5 ? fmt::format("{:.4g} s", seconds)
                          : fmt::format("{:.0f} s", seconds);
}

}  // namespace ringweave::cli
