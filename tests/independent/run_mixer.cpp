// For tests: a layer's mixer, forward and backward, split over ranks.
//
//   ringweave_mixer FOLDER…
//
// A folder has job.json: {"model": …, "layer": 0, "compute": "float32",
// "ranks": 3}; weights.safetensors, those of the mixer; and input.safetensors
// with "input" and "gradient of output", (batch, tokens, hidden) each, in the
// type "compute". It gets output.safetensors with "output", "gradient of
// input", and "gradient of NAME" of each weight.
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "ringweave/base/json.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/models/mixer.h"
#include "ringweave/weights/tensors.h"

namespace ringweave {
namespace {

using checkpoint::NamedTensor;
using checkpoint::SafetensorsFile;

struct Job {
  models::ModelConfig model;
  std::int64_t layer;
  ElementType compute;
  int ranks;
};

Job read_job(const std::string& path) {
  const Json json = read_json_file(path);
  return {.model = config::model_config_from_json(json.at("model"), "model"),
          .layer = json.at("layer"),
          .compute = element_type_from_name(json.at("compute")),
          .ranks = json.at("ranks")};
}

void set_weights(const std::vector<models::Parameter>& parameters,
                 const SafetensorsFile& file) {
  std::vector<NamedTensor> wanted;
  for (const auto& [name, value] : parameters) {
    wanted.push_back(weights::described(name, value));
  }
  const std::vector<NamedTensor> got = file.take(wanted);
  for (std::size_t i = 0; i < got.size(); ++i) {
    weights::copy(got[i], parameters[i].value);
  }
}

/// Of the type and shape of the file's tensors, which are all alike.
NamedTensor like(const SafetensorsFile& file, const std::string& name) {
  const NamedTensor& any = file.tensors().at(0);
  return {.name = name, .type = any.type, .shape = any.shape};
}

std::map<std::string, at::Tensor> run(const std::string& folder) {
  const Job job = read_job(folder + "/job.json");
  const SafetensorsFile file(folder + "/weights.safetensors");
  const SafetensorsFile input(folder + "/input.safetensors");
  const std::vector<NamedTensor> in =
      input.take({like(input, "input"), like(input, "gradient of output")});
  const at::Tensor x = weights::read(in[0]);
  const at::Tensor gradient = weights::read(in[1]);
  std::map<std::string, at::Tensor> sums = {
      {"output", at::zeros_like(x)}, {"gradient of input", at::zeros_like(x)}};
  std::mutex mutex;
  comm::run_ranks(
      job.ranks, [&](Rank, std::shared_ptr<comm::Transport> transport) {
        comm::Communicator communicator(std::move(transport));
        const models::Context context = models::make_context(
            job.model, job.compute,
            {.layout = schedule::Layout::zigzag(x.size(1), job.ranks),
             .softmax = schedule::strategy_from_name("multi_ring"),
             .linear = schedule::state_exchange_from_name("all_gather")},
            communicator);
        models::ParameterMaker maker(0, job.compute, models::Unseeded::memory);
        const auto mixer = models::make_mixer(job.model, job.layer, "", maker);
        set_weights(maker.parameters(), file);
        const at::Tensor own =
            x.index_select(1, context.positions).requires_grad_(true);
        const at::Tensor out = mixer->forward(own, context);
        out.backward(gradient.index_select(1, context.positions));
        const std::scoped_lock lock(mutex);
        sums["output"].index_add_(1, context.positions, out.detach());
        sums["gradient of input"].index_add_(1, context.positions, own.grad());
        for (const auto& [name, value] : maker.parameters()) {
          at::Tensor& sum = sums["gradient of " + name];
          sum = sum.defined() ? sum + value.grad() : value.grad();
        }
      });
  return sums;
}

void write_output(const std::string& folder) {
  const std::map<std::string, at::Tensor> sums = run(folder);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, sum] : sums) {
    tensors.push_back(weights::named(name, sum));
  }
  checkpoint::write_safetensors(folder + "/output.safetensors", tensors);
}

}  // namespace
}  // namespace ringweave

int main(int count, char** arguments) {
  try {
    for (int i = 1; i < count; ++i) ringweave::write_output(arguments[i]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
