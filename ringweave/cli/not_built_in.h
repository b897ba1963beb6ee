// Commands whose part was not built in.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace ringweave::cli {

/// Adds a command that takes any arguments and throws InvalidArgument: it was
/// not built in, `why`.
void add_not_built_in(CLI::App& app, const std::string& name,
                      const std::string& description, const std::string& why);

}  // namespace ringweave::cli
