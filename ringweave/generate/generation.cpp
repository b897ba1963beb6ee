#include "ringweave/generate/generation.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"

namespace ringweave::generate {
namespace {

/// A reply while it grows.
class Growing {
 public:
  Growing(const GenerationOptions& options, Reply& reply)
      : options_(options), reply_(reply) {}

  /// Returns whether the reply goes on.
  bool add(const Choice& choice) {
    if (std::ranges::find(options_.end_tokens, choice.token) !=
        options_.end_tokens.end()) {
      reply_.end = End::end_token;
      sure_ = reply_.tokens.size();
      return false;
    }
    last_ = choice.token;
    reply_.tokens.push_back(choice.token);
    reply_.log_probabilities.push_back(choice.log_probability);
    const std::size_t size = reply_.tokens.size();
    sure_ = size - stop_so_far();
    if (stopped_) {
      reply_.end = End::stop;
      reply_.tokens.resize(sure_);
      reply_.log_probabilities.resize(sure_);
      return false;
    }
    if (static_cast<std::int64_t>(size) < options_.max_tokens) return true;
    sure_ = size;
    return false;
  }

  /// Calls `told` for the tokens that became sure.
  template <typename Told>
  void tell(const Told& told) {
    for (; told_ < sure_; ++told_) told(reply_.tokens[told_]);
  }

  /// The last one that belongs to the sequence, which has yet to go through the
  /// model.
  std::optional<std::int64_t> last() const { return last_; }

 private:
  /// How many of the last tokens may become a stop, or are one.
  std::size_t stop_so_far() {
    const Tokens& tokens = reply_.tokens;
    std::size_t most = 0;
    for (const Tokens& stop : options_.stops) {
      for (std::size_t n = std::min(stop.size(), tokens.size()); n > most;
           --n) {
        if (!std::equal(tokens.end() - static_cast<std::ptrdiff_t>(n),
                        tokens.end(), stop.begin())) {
          continue;
        }
        if (n == stop.size()) {
          stopped_ = true;
          return n;
        }
        most = n;
      }
    }
    return most;
  }

  const GenerationOptions& options_;
  Reply& reply_;
  bool stopped_ = false;
  std::size_t sure_ = 0;
  std::size_t told_ = 0;
  std::optional<std::int64_t> last_;
};

/// One call of generate().
class Run {
 public:
  Run(Session& session, const std::vector<Request>& requests,
      const GenerationOptions& options, const OnToken& on_token)
      : session_(session),
        requests_(requests),
        options_(options),
        on_token_(on_token) {
    result_.unread.resize(requests.size());
    for (const Request& request : requests) {
      result_.replies.emplace_back(request.prompts.size());
      rounds_ = std::max(rounds_, request.prompts.size());
    }
  }

  Generated run() {
    reserve();
    for (std::size_t i = 0; i < rounds_; ++i) round(i);
    return std::move(result_);
  }

 private:
  void reserve() {
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      std::int64_t tokens = session_.tokens(i);
      for (const Tokens& prompt : requests_[i].prompts) {
        tokens +=
            static_cast<std::int64_t>(prompt.size()) + options_.max_tokens;
      }
      session_.reserve(i, tokens);
    }
  }

  void round(std::size_t index) {
    std::vector<std::size_t> active;
    std::vector<Growing> growing;
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      if (index >= requests_[i].prompts.size()) continue;
      active.push_back(i);
    }
    auto start = comm::Clock::now();
    std::vector<Choice> choices;
    for (const std::size_t i : active) {
      growing.emplace_back(options_, result_.replies[i][index]);
      choices.push_back(prompt(i, requests_[i].prompts[index]));
    }
    result_.prefill_seconds.push_back(since(start));
    if (options_.max_tokens == 0) return;
    for (;;) {
      std::vector<std::size_t> next;
      std::vector<Growing> still;
      Tokens tokens;
      for (std::size_t i = 0; i < active.size(); ++i) {
        const bool goes_on = growing[i].add(choices[i]);
        growing[i].tell([&](std::int64_t token) {
          if (on_token_) on_token_(active[i], index, token);
        });
        if (goes_on) {
          next.push_back(active[i]);
          still.push_back(growing[i]);
          tokens.push_back(choices[i].token);
        } else {
          result_.unread[active[i]] = growing[i].last();
        }
      }
      if (next.empty()) return;
      active = std::move(next);
      growing = std::move(still);
      start = comm::Clock::now();
      choices = chosen(active, session_.decode(active, tokens));
      result_.step_seconds.push_back(since(start));
    }
  }

  /// With the last token of the reply before it.
  Choice prompt(std::size_t sequence, const Tokens& prompt) {
    Tokens tokens;
    std::optional<std::int64_t>& unread = result_.unread[sequence];
    if (unread) tokens.push_back(*unread);
    unread.reset();
    tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    result_.prompt_tokens += static_cast<std::int64_t>(prompt.size());
    const Logits logits = session_.prefill(sequence, tokens);
    return chosen({sequence}, logits).front();
  }

  /// Owners choose, and tell all ranks.
  std::vector<Choice> chosen(const std::vector<std::size_t>& sequences,
                             const Logits& logits) {
    comm::Communicator& ranks = session_.communicator();
    std::vector<std::int64_t> count(static_cast<std::size_t>(ranks.size()));
    std::vector<std::pair<Rank, std::int64_t>> places;
    for (const std::size_t sequence : sequences) {
      const Rank owner = session_.owner(sequence);
      places.emplace_back(owner, count[owner]++);
    }
    const std::int64_t most = *std::ranges::max_element(count);
    constexpr std::int64_t kNumbers = 2;  // token, log probability
    const auto slot = [&](Rank rank, std::int64_t place) {
      return static_cast<std::size_t>(kNumbers * (rank * most + place));
    };
    // Ids are far below 2^53: a double holds them.
    std::vector<double> all(slot(ranks.size(), 0));
    for (std::size_t i = 0; i < logits.sequences.size(); ++i) {
      const std::size_t sequence = logits.sequences[i];
      const Choice choice =
          choose(logits.values.select(0, static_cast<std::int64_t>(i)),
                 seeded(sequence),
                 static_cast<std::uint64_t>(session_.tokens(sequence)));
      double* mine = &all[slot(ranks.rank(), static_cast<std::int64_t>(i))];
      mine[0] = static_cast<double>(choice.token);
      mine[1] = choice.log_probability;
    }
    if (ranks.size() > 1) ranks.all_gather_pieces(std::span(all));
    std::vector<Choice> choices;
    for (const auto& [rank, place] : places) {
      const double* of_owner = &all[slot(rank, place)];
      choices.push_back({static_cast<std::int64_t>(of_owner[0]), of_owner[1]});
    }
    return choices;
  }

  Sampling seeded(std::size_t sequence) const {
    Sampling sampling = options_.sampling;
    sampling.seed += sequence;
    return sampling;
  }

  static double since(comm::Clock::time_point start) {
    return std::chrono::duration<double>(comm::Clock::now() - start).count();
  }

  Session& session_;
  const std::vector<Request>& requests_;
  const GenerationOptions& options_;
  const OnToken& on_token_;
  std::size_t rounds_ = 0;
  Generated result_;
};

void check_tokens(const Tokens& tokens, const config::ModelConfig& model,
                  const std::string& what) {
  for (const std::int64_t token : tokens) {
    require(token >= 0 && token < model.vocab_size,
            "[generate] got the id {} in {}; want 0 … {}, the model's "
            "vocabulary",
            token, what, model.vocab_size - 1);
  }
}

}  // namespace

std::string name(End end) {
  switch (end) {
    case End::max_tokens:
      return "max_tokens";
    case End::end_token:
      return "end_token";
    case End::stop:
      break;
  }
  return "stop";
}

void check(const config::ModelConfig& model,
           const std::vector<Request>& requests,
           const GenerationOptions& options,
           const std::vector<std::int64_t>& before) {
  check_causal(model);
  check(options.sampling);
  require(options.max_tokens >= 0, "[max_tokens] got {}; want at least 0",
          options.max_tokens);
  require(!requests.empty(), "[generate] got no prompt; want at least one");
  for (const Tokens& stop : options.stops) {
    require(!stop.empty(), "[stop] got an empty text; want at least one token");
    check_tokens(stop, model, "a stop");
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    require(!requests[i].prompts.empty(),
            "[generate] got no prompt for sequence {}; want at least one", i);
    std::int64_t tokens = before.empty() ? 0 : before[i];
    for (const Tokens& prompt : requests[i].prompts) {
      require(!prompt.empty(),
              "[generate] got an empty prompt for sequence {}; want at least "
              "one token",
              i);
      check_tokens(prompt, model, "a prompt");
      tokens += static_cast<std::int64_t>(prompt.size()) + options.max_tokens;
    }
    require(model.max_position_embeddings == 0 ||
                tokens <= model.max_position_embeddings,
            "[generate] got {} tokens of prompts and replies of sequence {}; "
            "want at most {}, the model's max_position_embeddings",
            tokens, i, model.max_position_embeddings);
  }
}

Generated generate(Session& session, const std::vector<Request>& requests,
                   const GenerationOptions& options, const OnToken& on_token) {
  require(requests.size() == session.sequences(),
          "[generate] got {} requests for a session of {} sequences; want as "
          "many",
          requests.size(), session.sequences());
  std::vector<std::int64_t> before;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    before.push_back(session.tokens(i));
  }
  check(session.model().config(), requests, options, before);
  return Run(session, requests, options, on_token).run();
}

void read_rest(Session& session, const Generated& generated) {
  std::vector<std::size_t> sequences;
  Tokens tokens;
  for (std::size_t i = 0; i < generated.unread.size(); ++i) {
    if (!generated.unread[i]) continue;
    sequences.push_back(i);
    tokens.push_back(*generated.unread[i]);
  }
  if (!sequences.empty()) session.decode(sequences, tokens);
}

}  // namespace ringweave::generate
