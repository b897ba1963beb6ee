// ringweave_fuzz --parser=NAME [options and folders of libFuzzer]
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "tests/fuzz/parsers.h"

namespace {

const ringweave::fuzz::Parser* chosen = nullptr;

}  // namespace

// libFuzzer ignores options that begin with two dashes.
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  constexpr std::string_view kOption = "--parser=";
  std::string names;
  for (const auto& parser : ringweave::fuzz::parsers()) {
    names += std::string(" ") + parser.name;
    for (int i = 1; i < *count; ++i) {
      const std::string_view argument = (*arguments)[i];
      if (argument.starts_with(kOption) &&
          argument.substr(kOption.size()) == parser.name) {
        chosen = &parser;
      }
    }
  }
  if (chosen == nullptr) {
    fmt::print(stderr, "want --parser=NAME, one of{}\n", names);
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  ringweave::fuzz::feed(*chosen,
                        std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
