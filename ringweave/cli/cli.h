// The command line: one entry for the binary and for the Python op library.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ringweave/comm/transport.h"

namespace ringweave::cli {

/// Where a command's ranks come from.
struct Engine {
  /// Null: ranks are threads of this process, as many as --ranks says.
  /// Otherwise this process is one rank of a group that a launcher made; each
  /// member calls run() with the same arguments.
  std::shared_ptr<comm::Transport> group;
};

/// Runs a command and returns the exit code: 0, 2 for a fault of the caller
/// (arguments, config, files), 128 + signal after SIGINT or SIGTERM, else 1.
/// `arguments` are without the program's name. Results go to stdout, log and
/// errors to stderr. Throws nothing.
///
/// In a group, rank 0 alone prints results, and errors that all ranks share.
/// All ranks first tell each other whether their arguments can be used, so that
/// one that can't start does not leave the others waiting.
int run(const std::vector<std::string>& arguments, const Engine& engine);

}  // namespace ringweave::cli
