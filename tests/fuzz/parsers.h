// The readers of files and options that users write, by name: what libFuzzer
// (fuzz.cpp) and the test of the inputs that it found (parsers_test.cpp) feed.
#pragma once

#include <string>
#include <vector>

namespace ringweave::fuzz {

struct Parser {
  const char* name;
  /// Reads a text, and does with the result what the program does first.
  void (*read)(const std::string& text);
};

const std::vector<Parser>& parsers();

/// Lets `parser` read `text`. It may end in a result, or in InvalidArgument or
/// NoSolution. Any other exception is a fault and passes through;
/// std::logic_error says that a value was not read back as it was written.
void feed(const Parser& parser, const std::string& text);

}  // namespace ringweave::fuzz
