// A session's cache as a folder, to go on with another time: on other ranks
// too.
//
//   cache.json                  what it is of
//   rank-00000.safetensors, …   what each rank had: of layer 3 and sequence 0
//                               layers.3.sequences.0.{positions,k,v}, or state
//                               and, of a short convolution, tail
//   manifest.json               sums of these files
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ringweave/generate/session.h"

namespace ringweave::generate {

/// Makes the folder, which is complete or absent. Every rank calls it, and must
/// see the same file system. `weights`: a hash of the model's weights. Throws
/// InvalidArgument if it is there, Error if it can't be written.
void save_cache(const Session& session, const std::string& weights,
                const std::string& folder);

/// Tokens of each sequence in a folder. Throws InvalidArgument as load_cache().
std::vector<std::int64_t> cached_tokens(const std::string& folder);

/// Fills a session that has no tokens yet, on any number of ranks. Every rank
/// calls it. Throws InvalidArgument, which names the folder, if it is no such
/// folder or damaged, is of another model, other weights, another type or
/// another number of sequences.
void load_cache(const std::string& folder, const std::string& weights,
                Session& session);

}  // namespace ringweave::generate
