// The lines and words of a table that a tool printed, whatever editors, shells
// and web pages have done to its bytes since.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringweave::discovery {

struct TableLine {
  int number = 0;  ///< in the file, from 1
  /// An empty word stands for nothing between two tabs.
  std::vector<std::string> words;
};

/// Of `bytes` in UTF-8 or UTF-16, with a byte order mark or without; lines may
/// end with CR. Blank lines are left out. What colours a terminal is dropped,
/// even if only its "[4m" is left; frames of tables (|) and spaces of any kind
/// are blanks; other characters beyond ASCII become "?".
std::vector<TableLine> table_lines(std::string_view bytes);

/// Whether `word` is `prefix` and a number below 10000, such as "GPU0".
bool is_numbered(const std::string& word, std::string_view prefix);

/// Whether `word` names a GPU, as vendors' tables do: "GPU0".
bool is_gpu(const std::string& word);

}  // namespace ringweave::discovery
