// torch.classes.ringweave.Session: a model with a cache, on this process's rank
// of a group.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/custom_class.h>

#include "python/group.h"
#include "ringweave/generate/session.h"
#include "ringweave/models/model.h"

namespace ringweave::python {

/// Every rank of the group makes the same calls. What a call returns is on all
/// of them.
class Session : public torch::CustomClassHolder {
 public:
  /// `group`: none for this process alone. `options`: JSON of "sequences",
  /// "chunk", "layout", "softmax", "linear" and "compute", which have
  /// defaults.
  Session(const std::string& checkpoint,
          std::optional<c10::intrusive_ptr<Group>> group,
          const std::string& options);

  /// → (vocab_size).
  at::Tensor prefill(std::int64_t sequence,
                     const std::vector<std::int64_t>& tokens);
  /// → (sequences, vocab_size).
  at::Tensor decode(const std::vector<std::int64_t>& sequences,
                    const std::vector<std::int64_t>& tokens);
  /// Of each sequence, so far.
  std::vector<std::int64_t> tokens() const;
  std::vector<std::int64_t> end_tokens() const { return end_tokens_; }
  void save(const std::string& folder) const;
  void load(const std::string& folder);

 private:
  comm::Communicator& communicator() const;
  /// On all ranks, what owners have.
  at::Tensor everywhere(const std::vector<std::int64_t>& sequences,
                        const generate::Logits& logits) const;

  std::shared_ptr<GroupState> group_;          ///< or
  std::unique_ptr<comm::Communicator> alone_;  ///< this process is all
  std::unique_ptr<const models::Model> model_;
  std::vector<std::int64_t> end_tokens_;
  std::unique_ptr<generate::Session> session_;
};

}  // namespace ringweave::python
