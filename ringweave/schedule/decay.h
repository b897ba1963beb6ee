// How a linear layer's state decays from token to token, without tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringweave::schedule {

/// How the log decay g_t depends on the token. none: g = 0. constant: one
/// number per head. per_head: one gate per token and head. per_key: one gate
/// per token, head and key dimension.
enum class Decay { none, constant, per_head, per_key };

/// "none", "constant", "per_head", "per_key".
std::string name(Decay decay);
const std::vector<std::string>& decay_names();
/// Throws InvalidArgument, which lists the names, the nearest one first.
Decay decay_from_name(const std::string& name);

/// Numbers of decay that travel beside one head's state: the sum of a segment's
/// gates. Every rank knows a constant decay.
std::int64_t summary_decays(Decay decay, std::int64_t key_dim);

}  // namespace ringweave::schedule
