#include "ringweave/config/linear_family.h"

#include <cmath>
#include <deque>
#include <type_traits>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/config/model_config.h"

namespace ringweave::config {
namespace {

using schedule::Decay;

double product(std::initializer_list<std::int64_t> factors) {
  double result = 1;
  for (const std::int64_t factor : factors) {
    result *= static_cast<double>(factor);
  }
  return result;
}

/// State heads of a family in which all query heads of a group have the same k,
/// v and decay, and so share a state.
std::int64_t group_state_heads(const ModelConfig& model) {
  return model.kv_heads;
}

/// A basic layer without a normaliser norms its output instead.
bool has_normaliser(const ModelConfig& model) {
  return model.linear.word("feature_map") == "elu1";
}

StateShape basic_state(const ModelConfig& model) {
  // The normaliser travels as one more column of v.
  return {group_state_heads(model), model.head_dim,
          model.head_dim + (has_normaliser(model) ? 1 : 0)};
}

double basic_weights(const ModelConfig& model) {
  return has_normaliser(model) ? 0 : product({model.head_dim});
}

StateShape lightning_state(const ModelConfig& model) {
  // Each query head has a decay of its own.
  return {model.heads, model.head_dim, model.head_dim};
}

double lightning_weights(const ModelConfig& model) {
  return product({model.heads, model.head_dim});
}

StateShape gla_state(const ModelConfig& model) {
  return {group_state_heads(model), model.head_dim, model.head_dim};
}

double gla_weights(const ModelConfig& model) {
  const std::int64_t rank = model.linear.integer("gate_rank");
  const double gates = product({rank, model.hidden}) +
                       product({rank, model.kv_heads, model.head_dim}) +
                       product({model.kv_heads, model.head_dim});
  const double out_gate = product({model.heads, model.head_dim, model.hidden});
  return gates + out_gate + product({model.head_dim});
}

double retention_weights(const ModelConfig& model) {
  return product({model.heads, model.head_dim, model.hidden}) +
         product({model.head_dim});
}

/// Products of two of d numbers.
std::int64_t squares(std::int64_t d) { return d * (d + 1) / 2; }

StateShape based_state(const ModelConfig& model) {
  const std::int64_t d = model.linear.integer("feature_dim");
  return {group_state_heads(model), 1 + d + squares(d), model.head_dim + 1};
}

StateShape rebased_state(const ModelConfig& model) {
  const std::int64_t d = model.linear.integer("feature_dim");
  return {group_state_heads(model), squares(d), model.head_dim + 1};
}

/// What small heads save of the projections of q and k.
double based_weights(const ModelConfig& model) {
  const std::int64_t d = model.linear.integer("feature_dim");
  return product(
      {model.heads + model.kv_heads, model.hidden, d - model.head_dim});
}

/// Of Based and ReBased.
double small_key_channels(const ModelConfig& model) {
  return product({model.heads + model.kv_heads,
                  model.linear.integer("feature_dim")}) +
         product({model.kv_heads, model.head_dim});
}

double rebased_weights(const ModelConfig& model) {
  return based_weights(model) +
         product({2, model.linear.integer("feature_dim")});
}

constexpr std::int64_t kLeastConvolution = 2;
constexpr std::int64_t kMostConvolution = 8;

StateShape mamba2_state(const ModelConfig& model) {
  return {model.heads, model.linear.integer("state_dim"), model.head_dim};
}

/// x, B and C.
double mamba2_channels(const ModelConfig& model) {
  return product({model.heads, model.head_dim}) +
         product({2, model.linear.integer("state_dim")});
}

double mamba2_weights(const ModelConfig& model) {
  const double inner = product({model.heads, model.head_dim});
  const auto heads = static_cast<double>(model.heads);
  // Of B, C, x, z, Δ and out, in place of q, k, v and out.
  const double rows = product({2, model.linear.integer("state_dim")}) +
                      3 * inner + heads -
                      2 * (inner + product({model.kv_heads, model.head_dim}));
  return rows * product({model.hidden}) + mamba2_channels(model) + 3 * heads +
         inner;
}

/// Of Based and ReBased: a state has about half its square as rows.
const FamilyField kFeatureDim = {.name = "feature_dim",
                                 .fallback = std::int64_t{16},
                                 .least = 1,
                                 .most = 256};

/// One row per family. A deque, so that references stay valid.
std::deque<LinearFamily>& families() {
  static std::deque<LinearFamily> all = {
      {"basic",
       {{.name = "feature_map",
         .fallback = "elu1",
         .words = {"elu1", "identity"}}},
       Decay::none,
       basic_state,
       basic_weights},
      {"lightning", {}, Decay::constant, lightning_state, lightning_weights},
      {.name = "retention",
       .fields = {},
       .decay = Decay::constant,
       .state = lightning_state,  // each query head has a decay of its own
       .weights = retention_weights,
       .rope = true},
      {"gla",
       {{.name = "gate_rank", .fallback = std::int64_t{16}, .least = 1},
        {.name = "gate_divisor", .fallback = 16.0}},
       Decay::per_key,
       gla_state,
       gla_weights},
      {.name = "based",
       .fields = {kFeatureDim},
       .decay = Decay::none,
       .state = based_state,
       .weights = based_weights,
       .own_keys = true,
       .convolved = small_key_channels},
      {.name = "rebased",
       .fields = {kFeatureDim},
       .decay = Decay::none,
       .state = rebased_state,
       .weights = rebased_weights,
       .own_keys = true,
       .convolved = small_key_channels},
      {.name = "mamba2",
       .fields = {{.name = "state_dim",
                   .fallback = std::int64_t{64},
                   .least = 1,
                   .most = 4096}},
       .decay = Decay::per_head,
       .state = mamba2_state,
       .weights = mamba2_weights,
       .own_keys = true,
       .own_values = true,
       .convolution = {.name = "convolution",
                       .fallback = std::int64_t{4},
                       .least = kLeastConvolution,
                       .most = kMostConvolution},
       .convolved = mamba2_channels},
  };
  return all;
}

}  // namespace

FieldValue FamilyField::read(JsonObject& object) const {
  return std::visit(
      [&](const auto& value) -> FieldValue {
        using Type = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Type, std::int64_t>) {
          const std::int64_t got =
              object.integer(name, or_none ? 0 : least, value);
          require(got >= least || (or_none && got == 0),
                  "[{}.{}] got {}; want 0 for none, or at least {}",
                  object.path(), name, got, least);
          require(most == 0 || got <= most, "[{}.{}] got {}; want at most {}",
                  object.path(), name, got, most);
          return got;
        } else if constexpr (std::is_same_v<Type, double>) {
          const auto above = static_cast<double>(least);
          const double got = object.number(name, above, value);
          require(got > above, "[{}.{}] got {}; want a finite number above {}",
                  object.path(), name, got, above);
          return got;
        } else {
          return object.choice(name, words, value);
        }
      },
      fallback);
}

FamilyField optional_convolution() {
  return {.name = "convolution",
          .fallback = std::int64_t{0},
          .least = kLeastConvolution,
          .most = kMostConvolution,
          .or_none = true};
}

double qkv_channels(const ModelConfig& model) {
  return product({model.heads + 2 * model.kv_heads, model.head_dim});
}

std::vector<FamilyField> LinearFamily::all_fields() const {
  std::vector<FamilyField> all = fields;
  all.push_back(convolution);
  return all;
}

const LinearFamily& linear_family(const std::string& name) {
  return families()[place_of(name, linear_family_names(), "linear.kind")];
}

std::vector<std::string> linear_family_names() {
  std::vector<std::string> names;
  for (const LinearFamily& family : families()) names.push_back(family.name);
  return names;
}

void add_linear_family(LinearFamily family) {
  for (const LinearFamily& other : families()) {
    require(other.name != family.name,
            "[linear family] got a second \"{}\"; want another name",
            family.name);
  }
  families().push_back(std::move(family));
}

}  // namespace ringweave::config
