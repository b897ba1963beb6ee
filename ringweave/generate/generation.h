// Goes on with prompts, token by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/generate/sampler.h"
#include "ringweave/generate/session.h"

namespace ringweave::generate {

using Tokens = std::vector<std::int64_t>;

/// Of one sequence: each prompt follows what was generated after the one before
/// it.
struct Request {
  std::vector<Tokens> prompts;
};

struct GenerationOptions {
  std::int64_t max_tokens = 128;  ///< per prompt
  Sampling sampling = {};
  /// Any of these ends a reply, and is no part of it nor of the sequence.
  std::vector<std::int64_t> end_tokens = {};
  /// So does each of these in a row, which stay in the sequence, but not in the
  /// reply.
  std::vector<Tokens> stops = {};
};

enum class End { max_tokens, end_token, stop };
/// "max_tokens", "end_token", "stop".
std::string name(End end);

struct Reply {
  Tokens tokens;
  std::vector<double> log_probabilities;  ///< of these, as Choice
  End end = End::max_tokens;
};

struct Generated {
  std::vector<std::vector<Reply>> replies;  ///< [request][prompt]
  std::vector<double> prefill_seconds;      ///< of each round of prompts
  std::int64_t prompt_tokens = 0;
  std::vector<double> step_seconds;  ///< each of one token per unfinished reply
  /// [request]: the last token of its last reply, which the model has not read.
  std::vector<std::optional<std::int64_t>> unread;
};

/// Called for each token of a reply, once it is sure that no stop swallows it.
/// Every rank gets the same.
using OnToken = std::function<void(std::size_t request, std::size_t prompt,
                                   std::int64_t token)>;

/// Throws InvalidArgument if the requests and options can't be honoured, by
/// `model`: an encoder, no prompts, an empty prompt, ids beyond the vocabulary,
/// more tokens than max_position_embeddings; `before`: tokens of each request's
/// sequence that are there already, or empty.
void check(const config::ModelConfig& model,
           const std::vector<Request>& requests,
           const GenerationOptions& options,
           const std::vector<std::int64_t>& before = {});

/// Request i goes on in sequence i of the session. First prompts of all
/// requests go through the model one after the other, then replies grow
/// together, then second prompts follow. Every rank calls it with the same
/// requests and options, and gets the same. The token of sequence i at position
/// p is drawn with uniform(seed + i, p).
Generated generate(Session& session, const std::vector<Request>& requests,
                   const GenerationOptions& options, const OnToken& on_token);

/// Reads the unread tokens of what was generated, so that the cache has all of
/// the sequences. Every rank calls it.
void read_rest(Session& session, const Generated& generated);

}  // namespace ringweave::generate
