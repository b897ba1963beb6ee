// What CLI11 leaves to its users: values that make no sense whatever the option
// is for, and the nearest name to one that there is not.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace ringweave::cli {

/// Has every option of the command and those below it refuse an empty value,
/// and those with the type of a number (N, BYTES, SECONDS, …) what is none or
/// does not fit, which CLI11 would take for 0 or the nearest. Call it when all
/// options have been added.
void check_values(CLI::App& app);

/// Refuses a value that is none of `words`, which the error lists, nearest
/// first.
CLI::Validator one_of(std::vector<std::string> words);

/// What is wrong with a command line that `app` failed to parse: an unknown
/// command or option first, since it may be why another one is missing.
std::string fault(const CLI::App& app, const CLI::ParseError& error);

}  // namespace ringweave::cli
