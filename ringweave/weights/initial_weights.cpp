#include "ringweave/weights/initial_weights.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string_view>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/hash.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::weights {
namespace {

using checkpoint::NamedTensor;

constexpr std::string_view kLayers = "model.layers.";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

/// "model.layers.3.mlp.up_proj.weight" is {3, "mlp.up_proj.weight"}. Layer -1:
/// of no layer.
struct Place {
  std::int64_t layer = -1;
  std::string_view rest;
};

Place place_of(std::string_view name) {
  Place place{.rest = name};
  if (!name.starts_with(kLayers)) return place;
  const char* end = name.data() + name.size();
  const auto [stop, error] =
      std::from_chars(name.data() + kLayers.size(), end, place.layer);
  if (error != std::errc() || stop == end || *stop != '.') return {-1, name};
  place.rest = name.substr(static_cast<std::size_t>(stop - name.data()) + 1);
  return place;
}

/// Of a linear layer, and not of Llama's.
bool is_new(const config::ModelConfig& model, const std::string& name) {
  constexpr std::string_view kMixer = "self_attn.";
  constexpr std::array<std::string_view, 4> kLlama = {
      "q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"};
  const auto [layer, rest] = place_of(name);
  return layer >= 0 && model.is_linear(layer) && rest.starts_with(kMixer) &&
         std::ranges::find(kLlama, rest.substr(kMixer.size())) == kLlama.end();
}

void check_names(const std::vector<std::string>& skip,
                 const models::Model& model) {
  std::vector<std::string> names;
  for (const auto& [name, value] : model.parameters()) names.push_back(name);
  for (const std::string& name : skip) {
    ringweave::place_of(name, names, "init.skip");
  }
}

/// "0-2,5" of sorted numbers.
std::string ranges(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::size_t last = i;
    while (last + 1 < numbers.size() &&
           numbers[last + 1] == numbers[last] + 1) {
      ++last;
    }
    text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[i]);
    if (last > i) text += fmt::format("-{}", numbers[last]);
    i = last;
  }
  return text;
}

/// Processes may have read different folders, or one that was being written.
void check_equal(const models::Model& model, const std::string& folder,
                 comm::Communicator& communicator) {
  std::uint64_t hash = fnv1a("");
  for (const auto& [name, value] : model.parameters()) {
    hash = fnv1a_words(
        {static_cast<const char*>(value.const_data_ptr()), value.nbytes()},
        hash);
  }
  const auto all = communicator.all_gather(fmt::format("{:016x}", hash));
  const auto other = std::ranges::adjacent_find(all, std::not_equal_to());
  require(other == all.end(),
          "[{}] got other weights on rank {} than on rank {}; want the same "
          "files on all ranks",
          folder, other - all.begin() + 1, other - all.begin());
}

}  // namespace

InitialWeights::InitialWeights(const config::TrainConfig& config)
    : folder_(config.init.from) {
  const models::Model model(config.model, config.compute, {});
  const std::vector<std::string>& skip = config.init.skip;
  check_names(skip, model);
  for (const auto& [name, value] : model.parameters()) {
    const auto found = folder_.tensors().find(name);
    const NamedTensor wanted = described(name, value);
    const bool there = found != folder_.tensors().end();
    if (std::ranges::find(skip, name) != skip.end() ||
        (!there && is_new(config.model, name))) {
      drawn_.push_back(name);
      continue;
    }
    require(there,
            "[{}] got no tensor {}; want it as {}, or --init-skip {} to draw "
            "it from the seed",
            folder(), name, describe(wanted), name);
    const NamedTensor& got = found->second;
    require(is_float(got.type),
            "[{}] got tensor {} as {}; want floating point "
            "numbers",
            folder(), name, describe(got));
    require(got.shape == wanted.shape,
            "[{}] got tensor {} as {}; want {}, or --init-skip {} to draw it "
            "from the seed",
            folder(), name, describe(got), describe(wanted), name);
    taken_.push_back(name);
  }
  check_rest(model);
}

void InitialWeights::check_rest(const models::Model& model) const {
  std::set<std::string> names;
  for (const auto& [name, value] : model.parameters()) names.insert(name);
  for (const auto& [name, tensor] : folder_.tensors()) {
    // Old files hold RoPE's frequencies, which follow from the config.
    if (names.contains(name) || name.ends_with(".rotary_emb.inv_freq")) {
      continue;
    }
    if (name == kHead && model.config().tie_embeddings) {
      const auto embedding = folder_.tensors().find(kEmbedding);
      require(embedding != folder_.tensors().end() &&
                  std::ranges::equal(embedding->second.data, tensor.data),
              "[{}] got a {} beside tied embeddings; want none, or one equal "
              "to {}",
              folder(), name, kEmbedding);
      continue;
    }
    require(false,
            "[{}] got a tensor {}; want none of that name, which the "
            "model does not have",
            folder(), name);
  }
}

void InitialWeights::copy_to(const models::Model& model,
                             comm::Communicator& communicator) const {
  const std::set<std::string> taken(taken_.begin(), taken_.end());
  for (const auto& [name, value] : model.parameters()) {
    if (!taken.contains(name)) continue;
    const NamedTensor& tensor = folder_.tensors().at(name);
    copy(tensor, value);
    folder_.drop(tensor);
  }
  check_equal(model, folder(), communicator);
}

std::vector<std::string> by_layers(const std::vector<std::string>& names) {
  std::vector<std::string_view> order;
  std::map<std::string_view, std::vector<std::int64_t>> layers;
  for (const std::string& name : names) {
    const auto [layer, rest] = place_of(name);
    std::vector<std::int64_t>& of_rest = layers[rest];
    if (of_rest.empty()) order.push_back(rest);
    of_rest.push_back(layer);
  }
  std::vector<std::string> texts;
  for (const std::string_view rest : order) {
    const auto& of_rest = layers[rest];
    texts.push_back(of_rest.front() < 0 ? std::string(rest)
                                        : fmt::format("{}{}.{}", kLayers,
                                                      ranges(of_rest), rest));
  }
  return texts;
}

}  // namespace ringweave::weights
