#include "python/session.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/comm/local_transport.h"
#include "ringweave/config/train_config.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/generate/cache_folder.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/weights/model_folder.h"

namespace ringweave::python {
namespace {

constexpr const char* kLogits = "logits to all ranks";

std::size_t sequence_of(std::int64_t sequence) {
  require(sequence >= 0, "[session] got sequence {}; want 0 or more", sequence);
  return static_cast<std::size_t>(sequence);
}

}  // namespace

Session::Session(const std::string& checkpoint,
                 std::optional<c10::intrusive_ptr<Group>> group,
                 const std::string& options) {
  if (group) {
    group_ = (*group)->state();
  } else {
    alone_ =
        std::make_unique<comm::Communicator>(comm::LocalWorld(1).transport(0));
  }
  const auto make = [&] {
    const weights::ModelFolder folder(checkpoint);
    const Json json = parse_json(options, "options");
    JsonObject object(json, "session");
    const config::ParallelConfig defaults;
    generate::SessionOptions wanted{
        .sequences =
            static_cast<std::size_t>(object.integer("sequences", 1, 1)),
        .chunk = object.integer("chunk", 0, 0),
        .layout =
            object.choice("layout", schedule::Layout::names(), defaults.layout),
        .softmax = schedule::strategy_from_name(
            object.string("softmax", defaults.softmax)),
        .linear = schedule::state_exchange_from_name(
            object.string("linear", defaults.linear))};
    const ElementType compute =
        model_type_from_name(object.string("compute", name(folder.compute())));
    object.done();
    model_ = std::make_unique<const models::Model>(folder.load(compute));
    end_tokens_ = folder.end_tokens();
    return wanted;
  };
  const generate::SessionOptions wanted =
      communicator().or_refuse("Session", make);
  if (group_) {
    weights::check_equal(weights::hash_of(*model_), checkpoint, communicator());
  }
  session_ =
      std::make_unique<generate::Session>(*model_, wanted, communicator());
}

comm::Communicator& Session::communicator() const {
  return group_ ? group_->communicator : *alone_;
}

at::Tensor Session::everywhere(const std::vector<std::int64_t>& sequences,
                               const generate::Logits& logits) const {
  const at::Tensor all = at::empty({static_cast<std::int64_t>(sequences.size()),
                                    model_->config().vocab_size},
                                   tensor::scalar_type(model_->compute()));
  std::int64_t own = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const at::Tensor row = all[static_cast<std::int64_t>(i)];
    const Rank owner = session_->owner(sequence_of(sequences[i]));
    if (owner == communicator().rank()) row.copy_(logits.values[own++]);
    communicator().broadcast(device::buffer_of(row), owner, kLogits);
  }
  return all;
}

at::Tensor Session::prefill(std::int64_t sequence,
                            const std::vector<std::int64_t>& tokens) {
  return everywhere({sequence},
                    session_->prefill(sequence_of(sequence), tokens))[0];
}

at::Tensor Session::decode(const std::vector<std::int64_t>& sequences,
                           const std::vector<std::int64_t>& tokens) {
  std::vector<std::size_t> places;
  for (const std::int64_t sequence : sequences) {
    places.push_back(sequence_of(sequence));
  }
  return everywhere(sequences, session_->decode(places, tokens));
}

std::vector<std::int64_t> Session::tokens() const {
  return session_->cache().tokens;
}

void Session::save(const std::string& folder) const {
  generate::save_cache(*session_, weights::hash_of(*model_), folder);
}

void Session::load(const std::string& folder) {
  require(std::ranges::all_of(session_->cache().tokens,
                              [](std::int64_t n) { return n == 0; }),
          "[session] got load() with tokens that are there; want a new "
          "session");
  generate::load_cache(folder, weights::hash_of(*model_), *session_);
}

}  // namespace ringweave::python
