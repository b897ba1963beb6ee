// The command line: one entry for the binary and for the Python op library.
#pragma once

#include <string>
#include <vector>

#include "ringweave/comm/engine.h"

namespace ringweave::cli {

/// Runs a command and returns the exit code: 0, 2 for a fault of the caller
/// (arguments, config, files), 128 + signal after SIGINT or SIGTERM, else 1.
/// `arguments` are without the program's name. Results go to stdout, log and
/// errors to stderr. Throws nothing.
///
/// `engine`: where a command's ranks come from. Ranks that are threads are as
/// many as --ranks says. In a group, rank 0 alone prints results, and errors
/// that all ranks share. All ranks first tell each other whether their
/// arguments can be used, so that one that can't start does not leave the
/// others waiting.
int run(const std::vector<std::string>& arguments, const comm::Engine& engine);

}  // namespace ringweave::cli
