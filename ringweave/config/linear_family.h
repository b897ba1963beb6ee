// The families of linear layers, without torch: what a config says of them, and
// the numbers that plans need.
//
// A family is a row of the table in linear_family.cpp and a mixer of the same
// name in models/ (models/mixer.h).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/schedule/decay.h"

namespace ringweave::config {

struct ModelConfig;

/// An integer, a number, or a word.
using FieldValue = std::variant<std::int64_t, double, std::string>;

/// A field of a family in a config, beside "kind".
struct FamilyField {
  std::string name;
  FieldValue fallback;  ///< its type is the field's type
  /// Of an integer the least value. A number is finite and above it.
  std::int64_t least = 0;
  /// Of an integer the most; 0: no limit.
  std::int64_t most = 0;
  bool or_none = false;  ///< of an integer: 0, for none, is allowed as well
  std::vector<std::string> words = {};  ///< what a word may be

  /// The field of `object`, or the fallback. Throws InvalidArgument.
  FieldValue read(JsonObject& object) const;
};

/// The state of one linear layer for one sequence: `heads` matrices of key_dim
/// x value_dim numbers.
struct StateShape {
  std::int64_t heads = 1;
  std::int64_t key_dim = 1;
  std::int64_t value_dim = 1;
  friend bool operator==(const StateShape&, const StateShape&) = default;
};

/// The field "convolution" of families in which one need not be: how many
/// tokens a short convolution over q, k and v sees; 0, the default: there is
/// none.
FamilyField optional_convolution();
/// Channels of the projections of q, k and v, all with heads of head_dim.
double qkv_channels(const ModelConfig& model);

struct LinearFamily {
  std::string name;
  std::vector<FamilyField> fields;
  schedule::Decay decay;
  StateShape (*state)(const ModelConfig&);
  /// Numbers of a layer's weights beside the projections of q, k, v and out.
  double (*weights)(const ModelConfig&);
  bool rope = false;  ///< its queries and keys are rotary
  /// Its queries and keys are of another size than softmax's, so that none of
  /// these can become one of its.
  bool own_keys = false;
  bool own_values = false;  ///< the same of its values
  FamilyField convolution = optional_convolution();
  /// Channels that it goes over. Each has as many weights as it sees tokens.
  double (*convolved)(const ModelConfig&) = qkv_channels;

  /// Those of its own, and "convolution".
  std::vector<FamilyField> all_fields() const;
};

/// Throws InvalidArgument for an unknown name. The reference stays valid.
const LinearFamily& linear_family(const std::string& name);

/// Those of the table, then those added.
std::vector<std::string> linear_family_names();

/// To be called before any other thread reads a config. Throws InvalidArgument
/// if there is a family of that name.
void add_linear_family(LinearFamily family);

}  // namespace ringweave::config
