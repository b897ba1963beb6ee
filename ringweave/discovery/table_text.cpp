#include "ringweave/discovery/table_text.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace ringweave::discovery {
namespace {

constexpr char32_t kMark = 0xfeff;  ///< the byte order mark

char32_t byte(std::string_view bytes, std::size_t i) {
  return static_cast<unsigned char>(bytes[i]);
}

/// The place of the high byte in each two of UTF-16, which is 0 in nearly all
/// of a table; -1 for UTF-8.
int high_byte(std::string_view bytes) {
  constexpr std::size_t kLooked = 512;
  const std::size_t pairs = std::min(bytes.size(), kLooked) / 2;
  if (pairs == 0) return -1;
  if (bytes.starts_with("\xff\xfe")) return 1;
  if (bytes.starts_with("\xfe\xff")) return 0;
  std::size_t zeros[2] = {0, 0};
  for (std::size_t i = 0; i < 2 * pairs; ++i) {
    if (bytes[i] == '\0') ++zeros[i % 2];
  }
  for (const int place : {0, 1}) {
    if (2 * zeros[place] > pairs) return place;
  }
  return -1;
}

/// Units of UTF-16 as they are: what takes two of them becomes "?" anyway.
std::u32string from_utf16(std::string_view bytes, int high) {
  std::u32string text;
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    text.push_back(byte(bytes, i + high) << 8 | byte(bytes, i + 1 - high));
  }
  return text;
}

/// A byte that starts no character stands for itself.
std::u32string from_utf8(std::string_view bytes) {
  std::u32string text;
  for (std::size_t i = 0; i < bytes.size();) {
    const char32_t first = byte(bytes, i++);
    const int more = first >= 0xf0   ? 3
                     : first >= 0xe0 ? 2
                     : first >= 0xc0 ? 1
                                     : 0;
    char32_t code = more == 0 ? first : first & (0x3f >> more);
    for (int k = 0; k < more && i < bytes.size(); ++k) {
      if ((byte(bytes, i) & 0xc0) != 0x80) break;
      code = code << 6 | (byte(bytes, i++) & 0x3f);
    }
    text += code;
  }
  return text;
}

bool is_blank(char32_t c) {
  constexpr char32_t kNoBreak = 0xa0, kNarrow = 0x202f, kWide = 0x3000;
  constexpr char32_t kFirstSpace = 0x2000, kLastSpace = 0x200a;
  constexpr char32_t kFirstFrame = 0x2500, kLastFrame = 0x257f;
  return c == ' ' || c == '|' || c == '\v' || c == '\f' || c == kNoBreak ||
         c == kNarrow || c == kWide || (c >= kFirstSpace && c <= kLastSpace) ||
         (c >= kFirstFrame && c <= kLastFrame);
}

bool is_invisible(char32_t c) {
  constexpr char32_t kFirst = 0x200b, kLast = 0x200f;  // zero width, marks
  return c == kMark || c == 0 || (c >= kFirst && c <= kLast);
}

std::string to_ascii(const std::u32string& text) {
  constexpr char32_t kEscape = 0x1b, kFirstPrinted = 0x20, kDelete = 0x7f;
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (is_invisible(c)) continue;
    if (is_blank(c)) {
      result += ' ';
    } else if (c == '\r') {
      if (i + 1 == text.size() || text[i + 1] != '\n') result += '\n';
    } else if (c == '\n' || c == '\t' || c == kEscape ||
               (c >= kFirstPrinted && c < kDelete)) {
      result += static_cast<char>(c);
    } else {
      result += '?';
    }
  }
  return result;
}

/// Without what a terminal gets beside the text: ESC [ … letter, of which some
/// copies show ESC as ^[ and others lost it.
std::string without_colours(const std::string& text) {
  std::string result;
  const auto digits_end = [&](std::size_t i) {
    while (i < text.size() &&
           (std::isdigit(static_cast<unsigned char>(text[i])) ||
            text[i] == ';' || text[i] == '?')) {
      ++i;
    }
    return i;
  };
  for (std::size_t i = 0; i < text.size();) {
    std::size_t bracket = i;
    const bool escape = text[i] == '\x1b';
    if (escape) bracket = i + 1;
    if (text.compare(i, 2, "^[") == 0) bracket = i + 2;
    if (bracket < text.size() && text[bracket] == '[') {
      const std::size_t end = digits_end(bracket + 1);
      if (end < text.size() && (text[end] == 'm' || escape)) {
        i = end + 1;
        continue;
      }
    }
    if (!escape) result += text[i];
    ++i;
  }
  return result;
}

std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t tab = std::min(line.find('\t', begin), line.size());
    std::size_t at = line.find_first_not_of(' ', begin);
    if (at == std::string::npos || at >= tab) words.emplace_back();
    while (at != std::string::npos && at < tab) {
      const std::size_t end = std::min(line.find_first_of(" \t", at), tab);
      words.push_back(line.substr(at, end - at));
      at = line.find_first_not_of(' ', end);
    }
    begin = tab + 1;
  }
  return words;
}

}  // namespace

std::vector<TableLine> table_lines(std::string_view bytes) {
  const int high = high_byte(bytes);
  const std::string text = without_colours(
      to_ascii(high < 0 ? from_utf8(bytes) : from_utf16(bytes, high)));
  std::vector<TableLine> lines;
  int number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    TableLine line{++number, words_of(text.substr(begin, end - begin))};
    const bool blank = std::ranges::all_of(
        line.words, [](const std::string& word) { return word.empty(); });
    if (!blank) lines.push_back(std::move(line));
    begin = end + 1;
  }
  return lines;
}

bool is_numbered(const std::string& word, std::string_view prefix) {
  constexpr std::size_t kLongest = 4;
  return word.starts_with(prefix) && word.size() > prefix.size() &&
         word.size() <= prefix.size() + kLongest &&
         std::all_of(word.begin() + static_cast<std::ptrdiff_t>(prefix.size()),
                     word.end(),
                     [](unsigned char c) { return std::isdigit(c); });
}

bool is_gpu(const std::string& word) { return is_numbered(word, "GPU"); }

}  // namespace ringweave::discovery
