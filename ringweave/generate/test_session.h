// For tests: a small model, sessions on several ranks, and the logits of a
// whole forward pass.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/generate/session.h"
#include "ringweave/models/test_weights.h"

namespace ringweave::generate::test {

inline config::ModelConfig tiny(const std::string& kind,
                                const std::string& pattern) {
  config::ModelConfig config = models::test::tiny(kind, pattern);
  config.vocab_size = 13;
  config.layers = 3;
  return config;
}

inline models::Model make_model(const config::ModelConfig& config,
                                ElementType compute = ElementType::float64) {
  at::set_num_threads(1);
  models::Model model(config, compute, 5);
  models::test::enlarge(model);
  return model;
}

/// Tokens of a sequence that look random.
inline std::vector<std::int64_t> some_tokens(std::int64_t count,
                                             std::uint64_t seed,
                                             std::int64_t vocab = 13) {
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<std::int64_t>(
        (seed >> 33) % static_cast<std::uint64_t>(vocab)));
  }
  return tokens;
}

inline SessionOptions options_of(std::size_t sequences, std::int64_t chunk,
                                 const std::string& layout = "zigzag",
                                 const std::string& softmax = "multi_ring",
                                 const std::string& linear = "all_gather") {
  return {.sequences = sequences,
          .chunk = chunk,
          .layout = layout,
          .softmax = schedule::strategy_from_name(softmax),
          .linear = schedule::state_exchange_from_name(linear)};
}

inline void on_ranks(int ranks,
                     const std::function<void(comm::Communicator&)>& body) {
  comm::run_ranks(ranks, [&](Rank, std::shared_ptr<comm::Transport> transport) {
    using std::chrono::seconds;
    comm::Communicator communicator(
        std::move(transport), {.start = seconds(30), .step = seconds(30)});
    body(communicator);
  });
}

/// Of every token of a sequence, by one pass through the model on one rank:
/// (tokens, vocab_size).
inline at::Tensor whole_pass(const models::Model& model,
                             const std::vector<std::int64_t>& tokens) {
  at::Tensor logits;
  on_ranks(1, [&](comm::Communicator& communicator) {
    const at::NoGradGuard no_gradients;
    const auto count = static_cast<std::int64_t>(tokens.size());
    const models::Context context = models::make_context(
        model.config(), model.compute(),
        {.layout = schedule::Layout::contiguous(count, 1),
         .softmax = schedule::strategy_from_name("ring"),
         .linear = schedule::state_exchange_from_name("chain")},
        communicator);
    logits = model.forward(at::tensor(tokens, at::kLong).unsqueeze(0), context)
                 .select(0, 0);
  });
  return logits;
}

}  // namespace ringweave::generate::test
