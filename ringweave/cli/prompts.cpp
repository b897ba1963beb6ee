#include "ringweave/cli/prompts.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/base/file.h"
#include "ringweave/base/json.h"
#include "ringweave/data/source.h"

namespace ringweave::cli {
namespace {

using generate::Request;
using generate::Tokens;

Tokens tokens_of(const std::string& text, bool bytes, const std::string& what) {
  require(bytes,
          "[generate] got {} for a model whose tokens are not bytes; want ids, "
          "or `python -m ringweave generate --tokenizer FILE`",
          what);
  Tokens tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

Tokens ids_of(const std::string& text, const std::string& option) {
  Tokens ids;
  const char* at = text.data();
  const char* end = at + text.size();
  for (;;) {
    std::int64_t id = 0;
    const auto [stop, error] = std::from_chars(at, end, id);
    require(error == std::errc() && (stop == end || *stop == ','),
            "[generate] got {} {}; want ids such as 17,4,8", option, text);
    ids.push_back(id);
    if (stop == end) return ids;
    at = stop + 1;
  }
}

/// A line of a batch: {"text": "…"} or {"ids": […]}, or lists of these for
/// prompts that follow each other.
Request request_of(const Json& json, const std::string& where, bool bytes) {
  JsonObject object(json, where);
  const bool text = object.has("text");
  require(text != object.has("ids"),
          "[{}] got {} of \"text\" and \"ids\"; want one", where,
          text ? "both" : "neither");
  Request request;
  const Json& value = object.value(text ? "text" : "ids");
  object.done();
  const auto add = [&](const Json& prompt) {
    const bool fits = text
                          ? prompt.is_string()
                          : prompt.is_array() &&
                                std::ranges::all_of(prompt, [](const Json& id) {
                                  return id.is_number_integer();
                                });
    require(fits, "[{}] got {}; want {}", where, prompt.dump(),
            text ? "a string, or a list of strings"
                 : "a list of integers, or a list of such lists");
    request.prompts.push_back(
        text ? tokens_of(prompt.get<std::string>(), bytes, "a text in " + where)
             : prompt.get<Tokens>());
  };
  const bool several =
      value.is_array() && !value.empty() && (text || value.front().is_array());
  if (several) {
    for (const Json& prompt : value) add(prompt);
  } else {
    add(value);
  }
  return request;
}

std::vector<Request> batch_of(const std::string& path, bool bytes) {
  const std::string text = read_file(path, "a file of JSON lines");
  std::vector<Request> requests;
  std::string_view rest = text;
  for (int number = 1; !rest.empty(); ++number) {
    const std::size_t size = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, size);
    rest.remove_prefix(std::min(rest.size(), size + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}: line {}", path, number);
    requests.push_back(request_of(parse_json(line, where), where, bytes));
  }
  require(!requests.empty(),
          "[generate] got {}, which has no lines; want a JSON object on each",
          path);
  return requests;
}

}  // namespace

void add_prompt_options(CLI::App& command, PromptFlags& flags) {
  const auto repeatable =
      [&](const std::string& name, std::vector<std::string>& values,
          const std::string& text, const std::string& type) {
        command.add_option(name, values, text)
            ->type_name(type)
            ->expected(1)
            ->take_all();
      };
  repeatable("--prompt", flags.texts,
             "A text to go on with, of a model of bytes (repeatable: each "
             "follows the reply to the one before)",
             "TEXT");
  repeatable("--prompt-file", flags.files, "The same from a file (repeatable)",
             "FILE");
  repeatable("--prompt-ids", flags.ids,
             "The same as ids of tokens: 17,4,8 (repeatable)", "IDS");
  command
      .add_option("--batch", flags.batch,
                  "A sequence per line: {\"text\": \"…\"} or {\"ids\": […]}; "
                  "or lists of these, each of which follows the reply before")
      ->type_name("FILE.jsonl");
  repeatable("--stop", flags.stops,
             "A text that ends a reply, and is not printed (repeatable)",
             "TEXT");
  repeatable("--stop-ids", flags.stop_ids,
             "Ids that, one after the other, end a reply (repeatable)", "IDS");
}

std::vector<Request> read_prompts(const PromptFlags& flags, bool bytes) {
  const auto kinds =
      std::ranges::count(std::array{flags.texts.empty(), flags.files.empty(),
                                    flags.ids.empty(), flags.batch.empty()},
                         false);
  require(kinds == 1,
          "[generate] got {} of --prompt, --prompt-file, --prompt-ids and "
          "--batch; want one of them",
          kinds == 0 ? "none" : "several");
  if (!flags.batch.empty()) return batch_of(flags.batch, bytes);
  Request request;
  for (const std::string& text : flags.texts) {
    request.prompts.push_back(tokens_of(text, bytes, "--prompt"));
  }
  for (const std::string& file : flags.files) {
    request.prompts.push_back(tokens_of(read_file(file, "a readable text file"),
                                        bytes, "--prompt-file"));
  }
  for (const std::string& ids : flags.ids) {
    request.prompts.push_back(ids_of(ids, "--prompt-ids"));
  }
  return {request};
}

std::vector<Tokens> read_stops(const PromptFlags& flags, bool bytes) {
  std::vector<Tokens> stops;
  for (const std::string& text : flags.stops) {
    stops.push_back(tokens_of(text, bytes, "--stop"));
  }
  for (const std::string& ids : flags.stop_ids) {
    stops.push_back(ids_of(ids, "--stop-ids"));
  }
  return stops;
}

std::string text_of(const Tokens& tokens) {
  std::string text;
  for (const std::int64_t token : tokens) {
    if (token < data::kBytes) text += static_cast<char>(token);
  }
  return text;
}

}  // namespace ringweave::cli
