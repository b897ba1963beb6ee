#include "ringweave/weights/initial_weights.h"

#include <algorithm>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/weights/layer_names.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::weights {
namespace {

void check_names(const std::vector<std::string>& skip,
                 const models::Model& model) {
  std::vector<std::string> names;
  for (const auto& [name, value] : model.parameters()) names.push_back(name);
  for (const std::string& name : skip) {
    place_of(name, names, "init.skip");
  }
}

}  // namespace

InitialWeights::InitialWeights(const config::TrainConfig& config)
    : tensors_(config::find_model(config.init.from)) {
  const models::Model model(config.model, config.compute, {});
  const std::vector<std::string>& skip = config.init.skip;
  check_names(skip, model);
  for (const auto& [name, value] : model.parameters()) {
    if (std::ranges::find(skip, name) != skip.end() ||
        (!tensors_.has(name) && is_linear_alone(config.model, name)) ||
        (is_own_size(config.model, name) &&
         !tensors_.fits(described(name, value)))) {
      drawn_.push_back(name);
      continue;
    }
    tensors_.check(
        described(name, value),
        fmt::format(", or --init-skip {} to draw it from the seed", name));
    taken_.push_back(name);
  }
  left_out_ = tensors_.left_out(model);
}

void InitialWeights::copy_to(const models::Model& model,
                             comm::Communicator& communicator) const {
  tensors_.copy_to(model, taken_);
  check_equal(hash_of(model), tensors_.path(), communicator);
}

}  // namespace ringweave::weights
