// For tests: the logits of a folder of Hugging Face weights.
//
//   ringweave_logits FOLDER TOKENS OUT COMPUTE RANKS
//
// TOKENS: a safetensors file with "tokens", (batch, tokens) int64. OUT gets
// "logits", (batch, tokens, vocab_size), in the type COMPUTE.
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/config/model_source.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/weights/initial_weights.h"
#include "ringweave/weights/tensors.h"

namespace ringweave {
namespace {

config::TrainConfig config_of(const std::string& folder) {
  Json json = {{"format", "ringweave.config"},
               {"version", 1},
               {"init", {{"from", folder}}}};
  config::take_model_from_folder(json, "logits");
  return config::config_from_json(json, "logits");
}

at::Tensor read_tokens(const std::string& path) {
  const checkpoint::SafetensorsFile file(path);
  const checkpoint::NamedTensor& tokens = file.tensors().at(0);
  require(tokens.type == checkpoint::DataType::int64, "[logits] got {}",
          describe(tokens));
  at::Tensor read = at::empty(tokens.shape, at::kLong);
  std::memcpy(read.mutable_data_ptr(), tokens.data.data(), tokens.data.size());
  return read;
}

at::Tensor logits(const config::TrainConfig& config, const at::Tensor& tokens,
                  int ranks) {
  const at::NoGradGuard no_gradients;
  const weights::InitialWeights initial(config);
  at::Tensor all =
      at::empty({tokens.size(0), tokens.size(1), config.model.vocab_size},
                tensor::scalar_type(config.compute));
  std::mutex mutex;
  comm::run_ranks(ranks, [&](Rank, std::shared_ptr<comm::Transport> transport) {
    const at::NoGradGuard none_here;
    comm::Communicator communicator(std::move(transport));
    const models::Context context = models::make_context(
        config.model, config.compute,
        {.layout = schedule::Layout::zigzag(tokens.size(1), ranks),
         .softmax = schedule::strategy_from_name("multi_ring"),
         .linear = schedule::state_exchange_from_name("chain")},
        communicator);
    const models::Model model(config.model, config.compute, 0);
    initial.copy_to(model, communicator);
    const at::Tensor own =
        model.forward(tokens.index_select(1, context.positions), context);
    const std::scoped_lock lock(mutex);
    all.index_copy_(1, context.positions, own);
  });
  return all;
}

void write_logits(const std::vector<std::string>& arguments) {
  require(arguments.size() == 5, "[logits] got {} arguments; want 5",
          arguments.size());
  config::TrainConfig config = config_of(arguments[0]);
  config.compute = element_type_from_name(arguments[3]);
  const at::Tensor all =
      logits(config, read_tokens(arguments[1]), std::stoi(arguments[4]));
  checkpoint::write_safetensors(arguments[2], {weights::named("logits", all)});
}

}  // namespace
}  // namespace ringweave

int main(int count, char** arguments) {
  try {
    ringweave::write_logits({arguments + 1, arguments + count});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
