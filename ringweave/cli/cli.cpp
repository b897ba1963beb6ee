#include "ringweave/cli/cli.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/comm/first_fault.h"
#include "ringweave/comm/local_transport.h"

namespace ringweave::cli {
namespace {

constexpr const char* kDescription =
    "Exact sequence parallelism for hybrid models: trains and generates with "
    "the sequence split over ranks, measures what the split costs, prints how "
    "blocks travel.";
constexpr const char* kFooter =
    "Results go to stdout, log and errors to stderr. Exit code: 0 done, "
    "2 arguments or files that can't be used, 1 failure, 130 or 143 a signal.";

constexpr int kFailure = 1;
constexpr int kUsage = 2;

constexpr const char* kNotWritten = "could not write to standard output";

/// Throws Error if what was printed could not be written.
void flush_results() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  // An earlier write may have failed, and nobody has kept why.
  throw Error(errno == 0
                  ? kNotWritten
                  : fmt::format("{}: {}", kNotWritten, std::strerror(errno)));
}

/// Whether the command line asked for no more than a text on stdout.
bool parsed_to_end(const std::vector<std::string>& arguments,
                   Context& context) {
  CLI::App app(kDescription, "ringweave");
  app.footer(kFooter);
  bool version = false;
  bool json = false;
  app.add_flag("--version", version, "Print the version");
  app.add_flag("--json", json, "With --version: print it as JSON");
  app.require_subcommand(0, 1);
  add_train(app, context);
  add_export(app, context);
  add_generate(app, context);
  add_bench(app, context);
  add_topology(app, context);
  add_plan(app, context);
  add_simulate(app, context);
  check_values(app);

  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    if (context.leads()) fmt::print("{}", app.help());
    return true;
  } catch (const CLI::ParseError& error) {
    throw InvalidArgument(cli::fault(app, error));
  }
  if (version) {
    const Json all = versions();
    if (context.leads()) {
      fmt::print("{}", json ? all.dump(2) + "\n"
                            : fmt::format("ringweave {}\n",
                                          all["ringweave"].get<std::string>()));
    }
    return true;
  }
  require(bool(context.job),
          "no command; `ringweave --help` lists what there is");
  return false;
}

/// Ranks of a group tell each other whether they can start. Throws the first
/// rank's fault on all of them.
void compare_outcomes(const std::string& fault, const Context& context,
                      comm::Communicator& communicator) {
  const std::string first = comm::first_fault(fault, communicator);
  if (!first.empty()) throw InvalidArgument(first);
  communicator.check_agreement(context.facts);
}

/// Everything up to the job. Throws InvalidArgument alike on all ranks.
bool prepared_to_end(const std::vector<std::string>& arguments,
                     Context& context) {
  std::string fault;
  bool done = false;
  try {
    done = parsed_to_end(arguments, context);
  } catch (const InvalidArgument& error) {
    fault = error.what();
  } catch (const NoSolution& error) {
    fault = error.what();
  }
  if (context.engine.is_group()) {
    context.engine.run(
        context.engine.group_size(),
        {.start = context.start_time_out, .step = context.start_time_out},
        [&](comm::Communicator& communicator) {
          compare_outcomes(fault, context, communicator);
        });
  } else if (!fault.empty()) {
    throw InvalidArgument(fault);
  }
  return done;
}

/// Our texts may quote what the user gave: without characters that could do
/// anything to a terminal.
std::string plain(const std::string& what) {
  constexpr unsigned char kFirstPrinted = 0x20, kDelete = 0x7f;
  std::string text;
  for (const char c : what) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < kFirstPrinted || byte == kDelete) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  return text;
}

/// An error is one line.
void complain(const Context& context, const std::string& what) {
  std::fflush(stdout);
  const std::string text = plain(what);
  if (context.engine.is_group()) {
    fmt::print(stderr, "ringweave: rank {}: {}\n", context.engine.rank(), text);
  } else {
    fmt::print(stderr, "ringweave: {}\n", text);
  }
}

/// What follows the first line of torch's errors is its own call stack.
void complain_of_others(const Context& context, const std::exception& error) {
  const std::string what = error.what();
  const bool ours = dynamic_cast<const Error*>(&error) != nullptr;
  complain(context, ours ? what : what.substr(0, what.find('\n')));
}

/// Says why the job ended; returns the exit code.
int explain_failure(const Context& context, const std::exception& error) {
  if (dynamic_cast<const InvalidArgument*>(&error)) {
    complain(context, error.what());
    return kUsage;
  }
  // Of the standard errors it comes from a print that is too long for stdout's
  // buffer.
  const auto* system = dynamic_cast<const std::system_error*>(&error);
  const bool print = system && std::ferror(stdout) != 0;
  if (print) {
    complain(context,
             fmt::format("{}: {}", kNotWritten, system->code().message()));
  } else {
    complain_of_others(context, error);
  }
  return kFailure;
}

int run_job(const Context& context) {
  const InterruptScope interrupts;
  try {
    context.job();
    flush_results();
    return 0;
  } catch (const std::exception& error) {
    if (const auto* told = dynamic_cast<const Interrupted*>(&error)) {
      complain(context, told->what());
      return 128 + told->signal();
    }
    // A peer that a signal stopped first is no failure.
    const bool of_a_peer = dynamic_cast<const CommError*>(&error) != nullptr;
    if (const int signal = interrupted(); signal != 0 && of_a_peer) {
      complain(context,
               fmt::format("{}: {}", Interrupted(signal).what(), error.what()));
      return 128 + signal;
    }
    return explain_failure(context, error);
  }
}

}  // namespace

std::string Context::ranks_text(int ranks) const {
  return fmt::format(
      "{} ranks, {}", ranks,
      engine.is_group() ? "a process each" : "threads of one process");
}

int Context::ranks(std::optional<int> asked, int otherwise,
                   const char* where) const {
  if (engine.is_group()) {
    const int size = engine.group_size();
    require(!asked || *asked == size,
            "{} got --ranks {} in a group of {} processes; want {} or no "
            "--ranks",
            where, asked.value_or(0), size, size);
    return size;
  }
  const int ranks = asked.value_or(otherwise);
  require(ranks <= comm::kMaxLocalRanks,
          "{} got {}{}; want at most {}, since each is a thread, or a launcher",
          where, asked ? "--ranks " : "ranks ", ranks, comm::kMaxLocalRanks);
  return ranks;
}

int run(const std::vector<std::string>& arguments, const comm::Engine& engine) {
  Context context{.engine = engine, .job = {}, .facts = {}};
  try {
    if (prepared_to_end(arguments, context)) {
      flush_results();
      return 0;
    }
  } catch (const InvalidArgument& error) {
    if (context.leads()) {
      fmt::print(stderr, "ringweave: {}\n", plain(error.what()));
    }
    return kUsage;
  } catch (const std::exception& error) {
    complain_of_others(context, error);
    return kFailure;
  }
  return run_job(context);
}

Json versions() {
  return {{"ringweave", RINGWEAVE_VERSION},
          {"compiler", fmt::format("g++ {}", __VERSION__)},
          {"torch", torch_version()}};
}

}  // namespace ringweave::cli
