// How far a loop is: one line redrawn on a terminal, plain lines elsewhere.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace ringweave::cli {

/// Writes to a stream that outlives it, from one thread.
class Progress {
 public:
  /// `total` steps of what `name` says. Off: prints nothing.
  enum class Style { off, lines, bar };
  Progress(std::string name, std::int64_t total, Style style,
           std::FILE* stream = stderr);
  /// Ends the line if one is open.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// The bar if the stream is a terminal, else lines.
  static Style style_for(std::FILE* stream);

  /// `done` steps are done, of which `facts` says the latest. Lines: prints the
  /// first, the last and about 20 between them.
  void update(std::int64_t done, const std::string& facts);
  /// A line of its own, above the bar.
  void note(const std::string& text);

 private:
  bool due(std::int64_t done) const;

  std::string name_;
  std::int64_t total_;
  Style style_;
  std::FILE* stream_;
  bool open_ = false;  // a bar is on the current line
};

/// "[#####-----]" of `width` characters between the brackets.
std::string bar(std::int64_t done, std::int64_t total, int width);

/// "1.2 k", "3.4 M": three digits and a prefix of thousands, for log lines.
std::string with_prefix(double number);

/// Four digits of a time: "15.45 s" from a second on, "6.973 ms" below.
std::string time_text(double seconds);

}  // namespace ringweave::cli
