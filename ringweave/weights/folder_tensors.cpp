#include "ringweave/weights/folder_tensors.h"

#include <algorithm>
#include <functional>
#include <set>

#include "ringweave/base/error.h"
#include "ringweave/base/hash.h"
#include "ringweave/checkpoint/manifest.h"
#include "ringweave/comm/first_fault.h"
#include "ringweave/weights/layer_names.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::weights {
namespace {

using checkpoint::NamedTensor;

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

/// The folder's path, once the file of a checkpoint is known to be whole.
const std::string& checked(const config::ModelSource& source) {
  if (source.run) {
    checkpoint::check_file(source.folder, checkpoint::kWeightsFile);
  }
  return source.folder;
}

}  // namespace

FolderTensors::FolderTensors(const config::ModelSource& source)
    : folder_(checked(source)) {
  if (source.run) run_ = source.model;
}

bool FolderTensors::fits(const NamedTensor& wanted) const {
  const auto found = folder_.tensors().find(wanted.name);
  return found != folder_.tensors().end() &&
         found->second.shape == wanted.shape;
}

void FolderTensors::check(const NamedTensor& wanted,
                          const std::string& otherwise) const {
  const auto found = folder_.tensors().find(wanted.name);
  require(found != folder_.tensors().end(),
          "[{}] got no tensor {}; want it as {}{}", path(), wanted.name,
          describe(wanted), otherwise);
  const NamedTensor& got = found->second;
  require(is_float(got.type),
          "[{}] got tensor {} as {}; want floating point numbers", path(),
          wanted.name, describe(got));
  require(got.shape == wanted.shape, "[{}] got tensor {} as {}; want {}{}",
          path(), wanted.name, describe(got), describe(wanted), otherwise);
}

bool FolderTensors::is_needless(const std::string& name,
                                const models::Model& model) const {
  // Old files hold RoPE's frequencies.
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (name != kHead || !model.config().tie_embeddings) return false;
  const auto embedding = folder_.tensors().find(kEmbedding);
  require(embedding != folder_.tensors().end() &&
              std::ranges::equal(embedding->second.data,
                                 folder_.tensors().at(name).data),
          "[{}] got a {} beside tied embeddings; want none, or one equal to {}",
          path(), name, kEmbedding);
  return true;
}

std::vector<std::string> FolderTensors::left_out(
    const models::Model& model) const {
  std::set<std::string> known;
  for (const auto& [name, value] : model.parameters()) known.insert(name);
  std::vector<std::string> left;
  if (run_) {
    const models::Model own(*run_, model.compute(), {});
    for (const auto& [name, value] : own.parameters()) {
      if (is_linear_alone(*run_, name) && has(name) &&
          known.insert(name).second) {
        left.push_back(name);
      }
    }
  }
  for (const auto& [name, tensor] : folder_.tensors()) {
    require(known.contains(name) || is_needless(name, model),
            "[{}] got a tensor {}; want none of that name, which the model "
            "does not have",
            path(), name);
  }
  return left;
}

void FolderTensors::copy_to(const models::Model& model,
                            const std::vector<std::string>& names) const {
  const std::set<std::string> wanted(names.begin(), names.end());
  for (const auto& [name, value] : model.parameters()) {
    if (!wanted.contains(name)) continue;
    const NamedTensor& tensor = folder_.tensors().at(name);
    copy(tensor, value);
    folder_.drop(tensor);
  }
}

std::string hash_of(const models::Model& model) {
  std::uint64_t hash = fnv1a("");
  for (const auto& [name, value] : model.parameters()) {
    hash = fnv1a_words(
        {static_cast<const char*>(value.const_data_ptr()), value.nbytes()},
        hash);
  }
  return fmt::format("{:016x}", hash);
}

void check_equal(const std::string& hash, const std::string& folder,
                 comm::Communicator& communicator) {
  const auto all = communicator.all_gather(hash);
  const auto other = std::ranges::adjacent_find(all, std::not_equal_to());
  if (other == all.end()) return;
  comm::before_common_error(communicator);
  require(false,
          "[{}] got other weights on rank {} than on rank {}; want the same "
          "files on all ranks",
          folder, other - all.begin() + 1, other - all.begin());
}

}  // namespace ringweave::weights
