// A model that reads texts and goes on with them, on the ranks of a group.
//
//   Session session(model, {.sequences = 1}, communicator);
//   Logits logits = session.prefill(0, prompt);
//   logits = session.decode({0}, {token});   // again and again
//
// The tokens of a prompt are split over the ranks (prefill), as in training. A
// single next token is computed by the owner of its sequence (decode), which
// asks the other ranks for the softmax over the keys that they keep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/models/cache.h"
#include "ringweave/models/context.h"
#include "ringweave/models/model.h"

namespace ringweave::generate {

struct SessionOptions {
  std::size_t sequences = 1;
  /// Tokens of a prompt that go through the model at a time; 0: all.
  std::int64_t chunk = 0;
  std::string layout = "zigzag";  ///< of a chunk: a name of schedule::Layout
  schedule::Strategy softmax = {};
  schedule::StateExchangePtr linear = {};
};

/// Throws InvalidArgument for an encoder, which predicts no next tokens.
void check_causal(const config::ModelConfig& model);

/// Logits of the token behind the last one, of those sequences that this rank
/// owns.
struct Logits {
  std::vector<std::size_t> sequences;  ///< ascending
  at::Tensor values;  ///< (sequences, vocab_size), in the model's type
};

/// One rank's part. Every rank must make the same calls, with the same values.
/// They block, and throw CommError at a time-out. After an error other than
/// InvalidArgument the session can't be used.
class Session {
 public:
  /// The model and the communicator outlive the session. Throws InvalidArgument
  /// or NoSolution if the exchanges can't run on the communicator's ranks.
  Session(const models::Model& model, const SessionOptions& options,
          comm::Communicator& communicator);

  std::size_t sequences() const { return cache_.sequences(); }
  /// Of a sequence, so far.
  std::int64_t tokens(std::size_t sequence) const {
    return cache_.tokens.at(sequence);
  }
  Rank owner(std::size_t sequence) const { return cache_.owner(sequence); }

  /// Takes memory for a sequence of so many tokens at once. Else it grows as
  /// tokens come, and what grows is there twice for a moment.
  void reserve(std::size_t sequence, std::int64_t tokens);

  /// Puts tokens behind those of a sequence. Throws InvalidArgument if there
  /// are none, for ids that the vocabulary does not have, and beyond
  /// max_position_embeddings.
  Logits prefill(std::size_t sequence, std::span<const std::int64_t> tokens);
  /// Puts one token behind each of several sequences, which ascend and have
  /// tokens. Throws as prefill().
  Logits decode(const std::vector<std::size_t>& sequences,
                const std::vector<std::int64_t>& tokens);

  /// What this rank's cache takes.
  std::int64_t kv_bytes() const;
  std::int64_t state_bytes() const;

  const models::Model& model() const { return model_; }
  comm::Communicator& communicator() const { return communicator_; }
  const models::Cache& cache() const { return cache_; }
  /// For who loads a cache from a file: of the same sequences and ranks.
  models::Cache& cache() { return cache_; }

 private:
  const models::Context& chunk_context(std::int64_t tokens);
  /// → the hidden state of the last token: (1, hidden), on its rank only.
  at::Tensor prefill_chunk(std::size_t sequence,
                           std::span<const std::int64_t> tokens);
  /// Brings a row from one rank to another; the others do nothing.
  at::Tensor moved(const at::Tensor& row, Rank from, Rank to);
  void check(std::size_t sequence, std::span<const std::int64_t> tokens) const;
  /// Which the key of the next token goes to.
  Rank keeper(std::size_t sequence) const;
  Logits logits_of(std::vector<std::size_t> sequences,
                   const at::Tensor& hidden) const;

  const models::Model& model_;
  SessionOptions options_;
  comm::Communicator& communicator_;
  models::Cache cache_;
  std::list<models::Context> chunks_;  ///< of lengths that were used last
};

}  // namespace ringweave::generate
