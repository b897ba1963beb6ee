#include "ringweave/weights/layer_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace ringweave::weights {
namespace {

constexpr std::string_view kLayers = "model.layers.";

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

/// What its mixer calls a tensor of a linear layer; empty for others.
std::string_view of_linear_mixer(const config::ModelConfig& model,
                                 const std::string& name) {
  constexpr std::string_view kMixer = "self_attn.";
  const auto [layer, rest] = place_of(name);
  if (layer < 0 || !model.is_linear(layer) || !rest.starts_with(kMixer)) {
    return {};
  }
  return rest.substr(kMixer.size());
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

}  // namespace

bool is_linear_alone(const config::ModelConfig& model,
                     const std::string& name) {
  constexpr std::array<std::string_view, 4> kLlama = {
      "q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"};
  const std::string_view own = of_linear_mixer(model, name);
  return !own.empty() && std::ranges::find(kLlama, own) == kLlama.end();
}

bool is_own_size(const config::ModelConfig& model, const std::string& name) {
  const std::string_view own = of_linear_mixer(model, name);
  const config::LinearFamily& family = model.linear.family();
  return (family.own_keys &&
          (own == "q_proj.weight" || own == "k_proj.weight")) ||
         (family.own_values && own == "v_proj.weight");
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
