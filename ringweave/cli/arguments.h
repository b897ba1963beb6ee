// What CLI11 leaves to its users: values that make no sense whatever the option
// is for, and the nearest name to one that there is not.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "ringweave/base/error.h"

namespace ringweave::cli {

/// Has every option of the command and those below it refuse an empty value,
/// and those with the type of a number (N, BYTES, SECONDS, …) what is none or
/// does not fit, which CLI11 would take for 0 or the nearest. Call it when all
/// options have been added.
void check_values(CLI::App& app);

/// Refuses a value that is none of `words`, which the error lists, nearest
/// first.
CLI::Validator one_of(std::vector<std::string> words);

/// Runs of a measurement: throws InvalidArgument, which starts with `where`,
/// for none, and for more than anybody waits for.
void check_repeat(int repeat, const char* where);

/// Throws InvalidArgument if a value of a list comes twice: its rows could not
/// be told apart.
template <typename T>
void check_distinct(const std::vector<T>& values, const char* flag,
                    const char* where) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      require(values[i] != values[j], "{} got {} {} twice; want it once", where,
              flag, values[i]);
    }
  }
}

/// What is wrong with a command line that `app` failed to parse: an unknown
/// command or option first, since it may be why another one is missing.
std::string fault(const CLI::App& app, const CLI::ParseError& error);

}  // namespace ringweave::cli
