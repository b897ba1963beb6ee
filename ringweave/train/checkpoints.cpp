#include "ringweave/train/checkpoints.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/base/file.h"
#include "ringweave/checkpoint/manifest.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/checkpoint/state.h"
#include "ringweave/checkpoint/weights_folder.h"
#include "ringweave/comm/first_fault.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::train {
namespace {

using checkpoint::Manifest;
using checkpoint::NamedTensor;
using checkpoint::SafetensorsFile;
using weights::named;

std::string optimizer_file(int part, int parts) {
  return fmt::format("optimizer-{:05}-of-{:05}.safetensors", part + 1, parts);
}

std::vector<NamedTensor> weights_of(const models::Model& model) {
  std::vector<NamedTensor> all;
  for (const auto& [name, value] : model.parameters()) {
    all.push_back(named(name, value));
  }
  return all;
}

/// Of each parameter, what lies in piece `part` of `parts` of all numbers.
std::vector<Slice> slices_of_part(const models::Model& model, int part,
                                  int parts) {
  return slices(model.parameters(),
                cut({0, count(model.parameters())}, part, parts));
}

std::string moment_name(const Slice& slice, const char* word) {
  return fmt::format("{}.{}", slice.parameter->name, word);
}

/// Both moments, by the word for them that PyTorch uses.
std::array<std::pair<const char*, at::Tensor>, 2> moments(
    const AdamW& optimizer) {
  return {std::pair("exp_avg", optimizer.means()),
          std::pair("exp_avg_sq", optimizer.squares())};
}

/// The moments of piece `part` of `parts`, which this rank must have.
std::vector<NamedTensor> own_moments(const models::Model& model,
                                     const AdamW& optimizer, int part,
                                     int parts) {
  std::vector<NamedTensor> all;
  for (const Slice& slice : slices_of_part(model, part, parts)) {
    const Range own = moved(slice.range, -optimizer.piece().begin);
    for (const auto& [word, flat] : moments(optimizer)) {
      all.push_back(named(moment_name(slice, word),
                          flat.narrow(0, own.begin, own.size())));
    }
  }
  return all;
}

/// Copies what the file of piece `part` of `parts` has of this rank's piece.
void read_moments(const std::string& path, const models::Model& model,
                  AdamW& optimizer, int part, int parts) {
  const std::vector<Slice> slices = slices_of_part(model, part, parts);
  const auto moments = train::moments(optimizer);
  const ElementType type =
      tensor::element_type(optimizer.means().scalar_type()).value();
  std::vector<NamedTensor> wanted;
  for (const Slice& slice : slices) {
    for (const auto& [word, flat] : moments) {
      wanted.push_back({.name = moment_name(slice, word),
                        .type = checkpoint::data_type(type),
                        .shape = {slice.range.size()}});
    }
  }
  const SafetensorsFile file(path);
  const std::vector<NamedTensor> found = file.take(wanted);
  const std::int64_t bytes = element_bytes(type);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Range range = slices[i / moments.size()].range;
    const Range mine = clipped(range, optimizer.piece());
    if (mine.empty()) continue;
    const at::Tensor& flat = moments[i % moments.size()].second;
    std::memcpy(static_cast<std::byte*>(flat.mutable_data_ptr()) +
                    (mine.begin - optimizer.piece().begin) * bytes,
                found[i].data.data() + (mine.begin - range.begin) * bytes,
                static_cast<std::size_t>(mine.size() * bytes));
  }
}

void read_weights(const std::string& path, const models::Model& model) {
  const SafetensorsFile file(path);
  const std::vector<NamedTensor> found = file.take(weights_of(model));
  for (std::size_t i = 0; i < found.size(); ++i) {
    weights::copy(found[i], model.parameters()[i].value);
  }
}

}  // namespace

Checkpoints::Checkpoints(const config::TrainConfig& config,
                         const Saving& saving, comm::Communicator& communicator)
    : config_(config),
      saving_(saving),
      communicator_(communicator),
      folder_(saving.run) {
  // Rank 0 leaves a word, which the others must find.
  const std::string path = saving.run + "/ranks-look-here";
  std::string word;
  comm::together<Error>(communicator_, [&] {
    if (!leads()) return;
    folder_.remove_partial();
    word = fmt::format("{:08x}", std::random_device()());
    std::filesystem::remove(path);
    checkpoint::write_durable(path, word);
  });
  word = communicator_.all_gather(word)[0];
  comm::together<InvalidArgument>(communicator_, [&] {
    const std::string wanted =
        "the run folder of rank 0: one file system for "
        "all ranks";
    const std::string found = read_file(path, wanted);
    require(found == word, "[{}] got another folder; want {}", path, wanted);
  });
  std::error_code ignored;
  if (leads()) std::filesystem::remove(path, ignored);
}

void Checkpoints::load(std::int64_t step, const models::Model& model,
                       AdamW& optimizer) {
  const std::string folder = folder_.path_of(step);
  int parts = 0;
  comm::together<InvalidArgument>(communicator_, [&] {
    const auto manifest = checkpoint::read_manifest(folder);
    parts = checkpoint::read_state(folder).parts;
    std::vector<std::string> needed = {checkpoint::kWeightsFile,
                                       checkpoint::kStateFile};
    for (int part = 0; part < parts; ++part) {
      needed.push_back(optimizer_file(part, parts));
    }
    for (const std::string& name : needed) {
      require(manifest.contains(name), "[{}/{}] got no {}; want a checkpoint",
              folder, checkpoint::kManifestFile, name);
    }
    // Hashes take time: each rank looks at some files.
    std::int64_t at = 0;
    for (const auto& [name, sum] : manifest) {
      if (at++ % communicator_.size() == communicator_.rank()) {
        checkpoint::check_file(folder, name, sum);
      }
    }
  });
  comm::together<InvalidArgument>(communicator_, [&] {
    read_weights(folder + "/" + checkpoint::kWeightsFile, model);
    for (int part = 0; part < parts; ++part) {
      read_moments(folder + "/" + optimizer_file(part, parts), model, optimizer,
                   part, parts);
    }
    optimizer.set_steps(step);
  });
}

void Checkpoints::save(std::int64_t step, const models::Model& model,
                       const AdamW& optimizer) {
  const int rank = communicator_.rank();
  const int parts = communicator_.size();
  const std::string partial = folder_.partial_path_of(step);
  comm::together<Error>(communicator_, [&] {
    if (leads()) folder_.begin(step);
  });
  Manifest sums;
  try {
    comm::together<Error>(communicator_, [&] {
      const std::string file = optimizer_file(rank, parts);
      sums[file] = checkpoint::write_safetensors(
          partial + "/" + file, own_moments(model, optimizer, rank, parts));
      if (!leads()) return;
      sums[checkpoint::kWeightsFile] = checkpoint::write_safetensors(
          partial + "/" + checkpoint::kWeightsFile, weights_of(model),
          checkpoint::kWeightsMetadata);
      const checkpoint::State state{.step = step,
                                    .samples = step * config_.data.batch,
                                    .parts = parts,
                                    .data = saving_.data,
                                    .config = to_json(config_),
                                    .versions = saving_.versions};
      sums[checkpoint::kStateFile] =
          checkpoint::write_durable(partial + "/" + checkpoint::kStateFile,
                                    to_json(state).dump(2) + "\n");
    });
    for (const std::string& theirs :
         communicator_.all_gather(checkpoint::to_json(sums).dump())) {
      sums.merge(checkpoint::manifest_from_json(Json::parse(theirs), partial));
    }
    comm::together<Error>(communicator_, [&] {
      if (!leads()) return;
      checkpoint::write_manifest(partial, sums);
      folder_.complete(step);
    });
  } catch (const CommError&) {
    throw;
  } catch (const Error&) {
    std::error_code ignored;
    if (leads()) std::filesystem::remove_all(partial, ignored);
    throw;
  }
  comm::together<Error>(communicator_, [&] {
    if (leads()) {
      folder_.keep(config_.checkpoint.keep_last, config_.checkpoint.keep_every);
    }
  });
}

}  // namespace ringweave::train
