// ringweave generate: a model goes on with prompts.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "ringweave/base/error.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/bench/spread.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/progress.h"
#include "ringweave/cli/prompts.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/config/train_config.h"
#include "ringweave/data/source.h"
#include "ringweave/generate/cache_folder.h"
#include "ringweave/generate/generation.h"
#include "ringweave/generate/session.h"
#include "ringweave/tensor/allocated.h"
#include "ringweave/tensor/threads.h"
#include "ringweave/weights/model_folder.h"

namespace ringweave::cli {
namespace {

using generate::Generated;
using generate::GenerationOptions;
using generate::Reply;
using generate::Request;

struct GenerateFlags {
  std::string checkpoint;
  PromptFlags prompts;
  std::optional<int> ranks;
  GenerationOptions options;
  bool ignore_end = false;
  std::int64_t chunk = 0;
  std::string layout = config::ParallelConfig().layout;
  std::string softmax = config::ParallelConfig().softmax;
  std::string linear = config::ParallelConfig().linear;
  std::string compute;
  std::int64_t seed = 0;
  int threads = 0;
  std::string load_cache;
  std::string save_cache;
  bool json = false;
  bool json_lines = false;
};

/// All that is known before ranks start.
struct Work {
  std::shared_ptr<const weights::ModelFolder> folder;
  ElementType compute = ElementType::float32;
  std::vector<Request> requests;
  GenerationOptions options;
  generate::SessionOptions session;
  int ranks = 1;
};

/// What a reply is written as: bytes of text, or ids.
class Writer {
 public:
  Writer(bool bytes, bool json_lines, bool one)
      : bytes_(bytes),
        json_lines_(json_lines),
        one_(one),
        terminal_(isatty(STDOUT_FILENO) != 0) {}

  /// A token as it comes.
  void token(std::size_t request, std::size_t prompt, std::int64_t token) {
    if (json_lines_) {
      const Json line = {
          {"sequence", request}, {"prompt", prompt}, {"token", token}};
      fmt::print("{}\n", line.dump());
    } else if (one_) {
      end_replies(prompt);
      fmt::print("{}", text(token));
    }
    std::fflush(stdout);
  }

  /// What has not been written yet.
  void end(const Generated& generated) {
    if (one_) return end_replies(generated.replies[0].size());
    for (std::size_t i = 0; i < generated.replies.size(); ++i) {
      for (const Reply& reply : generated.replies[i]) {
        fmt::print("[{}] ", i);
        first_ = true;
        for (const std::int64_t token : reply.tokens) {
          fmt::print("{}", text(token));
        }
        fmt::print("\n");
      }
    }
  }

 private:
  /// Those before `prompt`: a line each, also of a reply without tokens.
  void end_replies(std::size_t prompt) {
    for (; prompt_ < prompt; ++prompt_) {
      fmt::print("\n");
      first_ = true;
    }
  }

  std::string text(std::int64_t token) {
    if (!bytes_) {
      return fmt::format("{}{}", std::exchange(first_, false) ? "" : " ",
                         token);
    }
    if (token >= data::kBytes) return "";
    const auto byte = static_cast<unsigned char>(token);
    // A terminal would obey what a model makes up.
    const bool control =
        (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    if (terminal_ && control) return fmt::format("\\x{:02x}", byte);
    return std::string(1, static_cast<char>(byte));
  }

  bool bytes_, json_lines_, one_, terminal_;
  bool first_ = true;  ///< no id yet on this line
  std::size_t prompt_ = 0;
};

/// The median; 0 of no steps.
double step_seconds(const Generated& generated) {
  return generated.step_seconds.empty() ? 0
                                        : spread(generated.step_seconds).median;
}

Json as_json(const Generated& generated, const std::vector<Json>& memory,
             const Work& work) {
  Json sequences = Json::array();
  for (const std::vector<Reply>& replies : generated.replies) {
    Json all = Json::array();
    for (const Reply& reply : replies) {
      Json one = {{"tokens", reply.tokens},
                  {"log_probabilities", reply.log_probabilities},
                  {"end", name(reply.end)}};
      if (work.folder->reads_bytes()) one["text"] = text_of(reply.tokens);
      all.push_back(std::move(one));
    }
    sequences.push_back({{"replies", std::move(all)}});
  }
  return {{"checkpoint", work.folder->path()},
          {"ranks", work.ranks},
          {"prompt_tokens", generated.prompt_tokens},
          {"prefill_seconds", generated.prefill_seconds},
          {"steps", generated.step_seconds.size()},
          {"seconds_per_step", step_seconds(generated)},
          {"sequences", std::move(sequences)},
          {"memory", memory}};
}

std::string summary(const Generated& generated, int ranks) {
  double prefill = 0;
  for (const double seconds : generated.prefill_seconds) prefill += seconds;
  return fmt::format(
      "{} tokens read in {} on {} rank{}; {} per token of each reply\n",
      generated.prompt_tokens, time_text(prefill), ranks, ranks == 1 ? "" : "s",
      time_text(step_seconds(generated)));
}

/// What one rank's session holds.
Json memory_of(const generate::Session& session,
               const tensor::Allocated& allocated) {
  return {
      {"rank", session.communicator().rank()},
      {"peak_tensor_bytes", allocated.peak()},
      {"kv_cache_bytes", session.kv_bytes()},
      {"state_bytes", session.state_bytes()},
      {"exchange_bytes", session.communicator().traffic().peak_buffer_bytes}};
}

void generate_job(const GenerateFlags& flags, const Work& work,
                  const Context& context) {
  tensor::set_threads(flags.threads, work.ranks);
  const models::Model model = work.folder->load(work.compute);
  // Reads all weights once more: threads of one process share them.
  const bool compared = context.engine.is_group() ||
                        !flags.load_cache.empty() || !flags.save_cache.empty();
  const std::string hash = compared ? weights::hash_of(model) : "";
  Writer writer(work.folder->reads_bytes(), flags.json_lines,
                work.requests.size() == 1);
  const bool streams = flags.json_lines || !flags.json;
  context.engine.run(work.ranks, {}, [&](comm::Communicator& communicator) {
    weights::check_equal(hash, work.folder->path(), communicator);
    communicator.set_before_call(check_interrupted);
    const bool leads = communicator.rank() == 0;
    const tensor::Allocated allocated;
    generate::Session session(model, work.session, communicator);
    if (!flags.load_cache.empty()) {
      generate::load_cache(flags.load_cache, hash, session);
    }
    const Generated generated = generate::generate(
        session, work.requests, work.options,
        [&](std::size_t request, std::size_t prompt, std::int64_t token) {
          check_interrupted();
          if (leads && streams) writer.token(request, prompt, token);
        });
    if (!flags.save_cache.empty()) {
      read_rest(session, generated);
      generate::save_cache(session, hash, flags.save_cache);
    }
    const std::vector<Json> memory =
        comm::all_gather_json(memory_of(session, allocated), communicator);
    if (!leads) return;
    if (flags.json || flags.json_lines) {
      fmt::print("{}\n",
                 as_json(generated, memory, work)
                     .dump(-1, ' ', false, Json::error_handler_t::replace));
      return;
    }
    writer.end(generated);
    std::fflush(stdout);
    fmt::print(stderr, "{}", summary(generated, work.ranks));
  });
}

/// Bytes of the weights and of the keys of all sequences, in this process.
double least_memory(const Work& work, const Context& context) {
  const config::ModelConfig& model = work.folder->model();
  double tokens = 0;
  for (const Request& request : work.requests) {
    for (const generate::Tokens& prompt : request.prompts) {
      tokens += static_cast<double>(prompt.size()) +
                static_cast<double>(work.options.max_tokens);
    }
  }
  double unlimited = 0;  // layers that see all tokens
  for (std::int64_t i = 0; i < model.layers; ++i) {
    if (!model.is_linear(i) && model.sliding_window(i) == 0) ++unlimited;
  }
  const double keys = tokens * unlimited * 2 *
                      static_cast<double>(model.kv_heads * model.head_dim *
                                          element_bytes(work.compute));
  return config::weight_count(model) *
             static_cast<double>(element_bytes(accumulate_type(work.compute))) +
         keys * context.engine.ranks_here(work.ranks) / work.ranks;
}

Work make_work(const GenerateFlags& flags, const Context& context) {
  Work work;
  work.folder = std::make_shared<const weights::ModelFolder>(flags.checkpoint);
  const weights::ModelFolder& folder = *work.folder;
  work.compute = flags.compute.empty() ? folder.compute()
                                       : model_type_from_name(flags.compute);
  work.ranks = context.ranks(flags.ranks, 1, "[generate]");
  const bool bytes = folder.reads_bytes();
  work.requests = read_prompts(flags.prompts, bytes);
  work.options = flags.options;
  work.options.stops = read_stops(flags.prompts, bytes);
  if (!flags.ignore_end) work.options.end_tokens = folder.end_tokens();
  work.session = {.sequences = work.requests.size(),
                  .chunk = flags.chunk,
                  .layout = flags.layout,
                  .softmax = schedule::strategy_from_name(flags.softmax),
                  .linear = schedule::state_exchange_from_name(flags.linear)};
  place_of(flags.layout, schedule::Layout::names(), "--layout");
  const config::ModelConfig& model = folder.model();
  std::vector<std::int64_t> before;
  std::error_code error;
  require(flags.save_cache.empty() ||
              !std::filesystem::exists(flags.save_cache, error),
          "[generate] got --save-cache {}, which exists; want a new folder",
          flags.save_cache);
  if (!flags.load_cache.empty()) {
    before = generate::cached_tokens(flags.load_cache);
    require(before.size() == work.requests.size(),
            "[generate] got prompts for {} sequences and --load-cache {}, "
            "which has {}; want as many",
            work.requests.size(), flags.load_cache, before.size());
  }
  check(model, work.requests, work.options, before);
  require_memory(least_memory(work, context), "[generate] got a model");
  return work;
}

void prepare(const std::shared_ptr<GenerateFlags>& flags, Context& context) {
  require(flags->seed >= 0, "[seed] got {}; want 0 or more", flags->seed);
  require(flags->threads >= 0,
          "[threads] got {}; want at least 1, or 0 for cores / ranks",
          flags->threads);
  flags->options.sampling.seed = static_cast<std::uint64_t>(flags->seed);
  require(!(flags->json && flags->json_lines),
          "[generate] got --json and --json-lines; want one of them");
  const auto work = std::make_shared<const Work>(make_work(*flags, context));
  Json requests = Json::array();
  for (const Request& request : work->requests) {
    requests.push_back(request.prompts);
  }
  const auto text = [](const auto& value) { return fmt::format("{}", value); };
  const generate::Sampling& sampling = work->options.sampling;
  context.facts = {
      {"command", "generate"},
      {"version", RINGWEAVE_VERSION},
      {"model", comm::abridged(config::to_json(work->folder->model()).dump())},
      {"compute", name(work->compute)},
      {"prompts", comm::abridged(requests.dump())},
      {"stops", comm::abridged(Json(work->options.stops).dump())},
      {"end tokens", comm::abridged(Json(work->options.end_tokens).dump())},
      {"--max-tokens", text(work->options.max_tokens)},
      {"--temperature", text(sampling.temperature)},
      {"--top-k", text(sampling.top_k)},
      {"--top-p", text(sampling.top_p)},
      {"--seed", text(sampling.seed)},
      {"--chunk", text(flags->chunk)},
      {"--layout", flags->layout},
      {"--softmax", flags->softmax},
      {"--linear", flags->linear},
      {"--load-cache", flags->load_cache.empty() ? "none" : "one"},
      {"--save-cache", flags->save_cache.empty() ? "none" : "one"}};
  context.job = [flags, work, &context] {
    generate_job(*flags, *work, context);
  };
}

}  // namespace

void add_generate(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "generate", "Go on with prompts by the weights of a run or a folder");
  auto flags = std::make_shared<GenerateFlags>();
  const GenerationOptions defaults;
  command
      ->add_option("--checkpoint", flags->checkpoint,
                   "Folder of a run, whose newest checkpoint is taken, of a "
                   "checkpoint, or one that Transformers wrote")
      ->type_name("FOLDER")
      ->required();
  add_prompt_options(*command, flags->prompts);
  command
      ->add_option("--ranks", flags->ranks,
                   "Ranks, as threads of this process (1; under torchrun: the "
                   "number of processes)")
      ->type_name("N");
  command
      ->add_option(
          "--max-tokens", flags->options.max_tokens,
          fmt::format("Most tokens of each reply ({})", defaults.max_tokens))
      ->type_name("N");
  generate::Sampling& sampling = flags->options.sampling;
  command
      ->add_option("--temperature", sampling.temperature,
                   "Divides the logits; 0: always the likeliest token (0)")
      ->type_name("T");
  command
      ->add_option("--top-k", sampling.top_k,
                   "Draw from the K likeliest tokens; 0: from all (0)")
      ->type_name("K");
  command
      ->add_option("--top-p", sampling.top_p,
                   "Draw from the likeliest tokens that together have this "
                   "probability (1)")
      ->type_name("P");
  command
      ->add_option("--seed", flags->seed,
                   "Of the draws, which depend on it and on a token's place "
                   "alone (0)")
      ->type_name("N");
  command->add_flag("--ignore-end", flags->ignore_end,
                    "Go on behind the model's end tokens");
  command
      ->add_option("--chunk", flags->chunk,
                   "Tokens of a prompt that go through the model at a time; "
                   "0: all (0)")
      ->type_name("N");
  command
      ->add_option("--layout", flags->layout,
                   fmt::format("How a prompt is split: {} ({})",
                               fmt::join(schedule::Layout::names(), ", "),
                               flags->layout))
      ->type_name("NAME");
  command
      ->add_option(
          "--softmax", flags->softmax,
          "How keys and values of a prompt travel (" + flags->softmax + ")")
      ->type_name("NAME");
  command
      ->add_option("--linear", flags->linear,
                   "How states of a prompt travel (" + flags->linear + ")")
      ->type_name("NAME");
  command
      ->add_option("--compute", flags->compute,
                   "float64, float32 or bfloat16 (what the folder says)")
      ->type_name("TYPE");
  command
      ->add_option("--threads", flags->threads,
                   "Threads per rank; 0: cores / ranks (0)")
      ->type_name("N");
  command
      ->add_option("--save-cache", flags->save_cache,
                   "New folder for what the model keeps of the sequences")
      ->type_name("FOLDER");
  command
      ->add_option("--load-cache", flags->load_cache,
                   "Go on behind the sequences of such a folder")
      ->type_name("FOLDER");
  command->add_flag("--json", flags->json,
                    "Print the result as one JSON object");
  command->add_flag("--json-lines", flags->json_lines,
                    "Print each token as a JSON object as it comes, then the "
                    "result");
  command->callback([flags, &context] { prepare(flags, context); });
}

}  // namespace ringweave::cli
