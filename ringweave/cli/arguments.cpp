#include "ringweave/cli/arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/base/json.h"

namespace ringweave::cli {
namespace {

template <typename Number>
bool is_number(const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

struct NumberType {
  const char* type;  ///< as --help names it
  bool (*is)(const std::string&);
  const char* wanted;
};

constexpr const char* kWhole = "a whole number below 2^63";
constexpr const char* kNumber = "a number, such as 0.5 or 2e9";
constexpr NumberType kNumbers[] = {
    {"N", is_number<std::int64_t>, kWhole},
    {"INT", is_number<std::int64_t>, kWhole},
    {"UINT", is_number<std::uint64_t>, "a whole number, 0 … 2^64 - 1"},
    {"FLOAT", is_number<double>, kNumber},
    {"FLOPS", is_number<double>,
     "a number of operations per second, such as 4e14"},
    {"BYTES", is_number<double>, "a number of bytes, such as 80e9"},
    {"SECONDS", is_number<double>, "a number of seconds, such as 1e-6"},
    {"LIMIT", is_number<double>, "a number of seconds, such as 60"},
};

void check_value(CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return;  // a flag
  const std::string type = option.get_type_name();
  std::string wanted = fmt::format("a value ({})", type);
  bool (*is)(const std::string&) = nullptr;
  for (const NumberType& number : kNumbers) {
    if (type != number.type) continue;
    wanted = number.wanted;
    is = number.is;
  }
  option.check([wanted, is](const std::string& text) {
    return text.empty() || (is != nullptr && !is(text))
               ? fmt::format("got \"{}\"; want {}", text, wanted)
               : std::string();
  });
}

/// "ringweave topology list"
std::string full_name(const CLI::App& app) {
  const std::string& name = app.get_name();
  return app.get_parent() == nullptr
             ? name
             : fmt::format("{} {}", full_name(*app.get_parent()), name);
}

std::string unknown(const CLI::App& app, const std::string& argument) {
  const std::string word = argument.substr(0, argument.find('='));
  const std::size_t dashes = std::min(word.find_first_not_of('-'), word.size());
  std::vector<std::string> known;
  if (dashes == 0) {
    for (const CLI::App* command : app.get_subcommands({})) {
      known.push_back(command->get_name());
    }
  } else {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) {
        known.push_back(name);
      }
    }
  }
  const auto near = nearest(word.substr(dashes), known);
  return fmt::format(
      "got {}, which `{}` does not know{}; `{} --help` lists what there is",
      word, full_name(app),
      near ? fmt::format("; did you mean {}{}?", dashes == 0 ? "" : "--", *near)
           : "",
      full_name(app));
}

}  // namespace

void check_values(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) check_value(*option);
  for (CLI::App* command : app.get_subcommands({})) check_values(*command);
}

CLI::Validator one_of(std::vector<std::string> words) {
  return CLI::Validator(
      [words = std::move(words)](const std::string& text) {
        if (std::ranges::find(words, text) != words.end()) return std::string();
        const auto near = nearest(text, words);
        return fmt::format("got \"{}\"; want {}{}", text,
                           near ? *near + "? or one of " : "",
                           fmt::join(words, ", "));
      },
      "");
}

std::string fault(const CLI::App& app, const CLI::ParseError& error) {
  const bool lacks = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  const bool extra = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  const CLI::App* at = &app;
  while ((lacks || extra) && at != nullptr) {
    const std::vector<std::string> left = at->remaining();
    if (!left.empty()) return unknown(*at, left.front());
    const std::vector<CLI::App*> chosen = at->get_subcommands();
    at = chosen.empty() ? nullptr : chosen.front();
  }
  at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  // Nothing else is required of a command that only groups others.
  if (lacks && at->get_require_subcommand_min() > 0) {
    std::vector<std::string> commands;
    for (const CLI::App* command : at->get_subcommands({})) {
      commands.push_back(command->get_name());
    }
    return fmt::format("got nothing after `{}`; want one of {}", full_name(*at),
                       fmt::join(commands, ", "));
  }
  return error.what();
}

void check_repeat(int repeat, const char* where) {
  constexpr int kMost = 1'000'000;
  require(repeat >= 1 && repeat <= kMost, "{} got --repeat {}; want 1 to {}",
          where, repeat, kMost);
}

}  // namespace ringweave::cli
