#include "ringweave/generate/cache_folder.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/checkpoint/durable_file.h"
#include "ringweave/checkpoint/manifest.h"
#include "ringweave/checkpoint/new_folder.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/comm/first_fault.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"
#include "ringweave/weights/tensors.h"

namespace ringweave::generate {
namespace {

using checkpoint::NamedTensor;
using checkpoint::SafetensorsFile;

constexpr const char* kFile = "cache.json";
constexpr const char* kCacheFormat = "ringweave.cache";
constexpr int kCacheVersion = 1;

std::string rank_file(int rank) {
  return fmt::format("rank-{:05}.safetensors", rank);
}

std::string place(std::size_t layer, std::size_t sequence) {
  return fmt::format("layers.{}.sequences.{}.", layer, sequence);
}

/// One rank's tensors; what they view lives in `held`.
struct OwnTensors {
  std::vector<NamedTensor> tensors;
  std::vector<at::Tensor> held;

  void add(const std::string& name, const at::Tensor& tensor) {
    held.push_back(tensor.contiguous());
    tensors.push_back(weights::named(name, held.back()));
  }
};

OwnTensors own_tensors(const models::Cache& cache, Rank rank) {
  OwnTensors own;
  for (std::size_t i = 0; i < cache.layers.size(); ++i) {
    const models::LayerCache& layer = cache.layers[i];
    for (std::size_t s = 0; s < cache.sequences(); ++s) {
      const attention::KvCache& kv = layer.kv[s];
      if (kv.tokens() > 0) {
        const auto positions = kv.positions();
        own.add(place(i, s) + "positions",
                at::tensor(at::ArrayRef(positions.data(), positions.size()),
                           at::kLong));
        own.add(place(i, s) + "k", kv.keys().k.select(0, 0));
        own.add(place(i, s) + "v", kv.keys().v.select(0, 0));
      }
      if (cache.owner(s) != rank || cache.tokens[s] == 0) continue;
      const auto add_row = [&](const char* name, const at::Tensor& all) {
        if (!all.defined()) return;
        own.add(place(i, s) + name, all.select(0, cache.place(s)));
      };
      add_row("state", layer.states);
      add_row("tail", layer.tails);
    }
  }
  return own;
}

Json description(const Session& session, const std::string& weights) {
  return {{"format", kCacheFormat},
          {"version", kCacheVersion},
          {"model", config::to_json(session.model().config())},
          {"compute", name(session.model().compute())},
          {"weights", weights},
          {"ranks", session.cache().ranks()},
          {"tokens", session.cache().tokens}};
}

struct Description {
  config::ModelConfig model;
  std::string compute;
  std::string weights;
  int ranks = 0;
  std::vector<std::int64_t> tokens;
};

Description read_description(const std::string& folder) {
  const std::string path = folder + "/" + kFile;
  const auto manifest = checkpoint::read_manifest(folder);
  const auto sum = manifest.find(kFile);
  require(sum != manifest.end(), "[{}/{}] got no {}; want a cache", folder,
          checkpoint::kManifestFile, kFile);
  checkpoint::check_file(folder, kFile, sum->second);
  const Json json = read_json_file(path);
  JsonObject object(json, path);
  check_format(object, kCacheFormat, kCacheVersion);
  Description result;
  result.model =
      config::model_config_from_json(object.value("model"), path + ".model");
  result.compute = object.choice("compute", model_type_names());
  result.weights = object.string("weights");
  result.ranks = static_cast<int>(object.integer("ranks", 1));
  result.tokens = object.integers("tokens");
  object.done();
  require(!result.tokens.empty() &&
              std::ranges::all_of(result.tokens,
                                  [](std::int64_t n) { return n >= 0; }),
          "[{}.tokens] got no sequences or negative numbers; want the tokens "
          "of each sequence",
          path);
  return result;
}

/// The files of all ranks that wrote a cache.
class Files {
 public:
  Files(const std::string& folder, int ranks, comm::Communicator& reader) {
    const auto manifest = checkpoint::read_manifest(folder);
    for (int rank = 0; rank < ranks; ++rank) {
      const std::string name = rank_file(rank);
      const auto sum = manifest.find(name);
      require(sum != manifest.end(),
              "[{}/{}] got no {}; want a cache of {} "
              "ranks",
              folder, checkpoint::kManifestFile, name, ranks);
      // Hashes take time: each rank looks at some files.
      if (rank % reader.size() == reader.rank()) {
        checkpoint::check_file(folder, name, sum->second);
      }
      files_.emplace_back(folder + "/" + name);
    }
  }

  /// Copies of the tensors of that name, of all files that have one, each of
  /// which must be of this type.
  std::vector<std::pair<std::size_t, at::Tensor>> all(
      const std::string& name, at::ScalarType type) const {
    std::vector<std::pair<std::size_t, at::Tensor>> found;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const NamedTensor* tensor = find(i, name);
      if (!tensor) continue;
      require(tensor->type == weights::data_type(type),
              "[{}] got tensor {} as {}; want {}", files_[i].path(), name,
              describe(*tensor), checkpoint::name(weights::data_type(type)));
      found.emplace_back(i, weights::read(*tensor));
    }
    return found;
  }
  /// Of one file, which must have it in this shape and type.
  at::Tensor one(std::size_t file, const std::string& name,
                 const std::vector<std::int64_t>& shape,
                 at::ScalarType type) const {
    const std::string& path = files_[file].path();
    const NamedTensor* tensor = find(file, name);
    require(tensor != nullptr, "[{}] got no tensor {}; want one", path, name);
    const NamedTensor wanted{
        .name = name, .type = weights::data_type(type), .shape = shape};
    require(tensor->shape == shape && tensor->type == wanted.type,
            "[{}] got tensor {} as {}; want {}", path, name, describe(*tensor),
            describe(wanted));
    return weights::read(*tensor);
  }

 private:
  /// Null: the file has none of that name.
  const NamedTensor* find(std::size_t file, const std::string& name) const {
    const std::vector<NamedTensor>& tensors = files_[file].tensors();
    const auto found = std::ranges::find(tensors, name, &NamedTensor::name);
    return found == tensors.end() ? nullptr : &*found;
  }

  std::vector<SafetensorsFile> files_;
};

/// Which rank takes a position: any window of them is spread evenly.
Rank taker(std::int64_t position, int ranks) {
  return static_cast<Rank>(position % ranks);
}

/// Keys and values of one layer and sequence, those that this rank takes.
void load_keys(const Files& files, std::size_t layer, std::size_t sequence,
               Session& session) {
  const config::ModelConfig& model = session.model().config();
  models::Cache& cache = session.cache();
  const Rank rank = session.communicator().rank();
  const at::ScalarType type = tensor::scalar_type(session.model().compute());
  const std::string name = place(layer, sequence);
  struct Key {
    std::int64_t position;
    std::size_t part;
    std::int64_t row;
  };
  std::vector<Key> keys;
  std::vector<std::pair<at::Tensor, at::Tensor>> parts;
  for (const auto& [file, positions] :
       files.all(name + "positions", at::kLong)) {
    const std::vector<std::int64_t> shape = {positions.numel(), model.kv_heads,
                                             model.head_dim};
    parts.emplace_back(files.one(file, name + "k", shape, type),
                       files.one(file, name + "v", shape, type));
    const auto* position = positions.const_data_ptr<std::int64_t>();
    for (std::int64_t row = 0; row < positions.numel(); ++row) {
      if (taker(position[row], cache.ranks()) == rank) {
        keys.push_back({position[row], parts.size() - 1, row});
      }
    }
  }
  std::ranges::sort(keys, {}, &Key::position);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::int64_t position = keys[i].position;
    require(position >= 0 && position < cache.tokens[sequence] &&
                (i == 0 || keys[i - 1].position < position),
            "[cache] got the position {} in {}; want each of 0 … {} once",
            position, name, cache.tokens[sequence] - 1);
    const auto row = [&](const at::Tensor& x) {
      return x.narrow(0, keys[i].row, 1).unsqueeze(0);
    };
    cache.layers[layer].kv[sequence].append(row(parts[keys[i].part].first),
                                            row(parts[keys[i].part].second),
                                            std::span(&position, 1));
  }
}

/// Puts the tensor of that name, which must be of this shape, into the rows
/// `all` of the sequence's owner.
void load_row(const Files& files, const std::string& name,
              std::vector<std::int64_t> shape, ElementType type,
              std::size_t sequence, const models::Cache& cache,
              at::Tensor& all) {
  const auto found = files.all(name, tensor::scalar_type(type));
  require(found.size() == 1 && found[0].second.sizes() == shape,
          "[cache] got {} tensors {}{}; want one of {}", found.size(), name,
          found.size() == 1 ? " of another shape" : "",
          tensor::shape_text(shape));
  if (!all.defined()) {
    shape.insert(shape.begin(), cache.owned(cache.owner(sequence)));
    all = at::zeros(shape, tensor::scalar_type(type));
  }
  all.select(0, cache.place(sequence)).copy_(found[0].second);
}

/// The state of a linear layer, and what its convolution goes on from.
void load_state(const Files& files, std::size_t layer, std::size_t sequence,
                Session& session) {
  models::Cache& cache = session.cache();
  const config::ModelConfig& model = session.model().config();
  if (cache.owner(sequence) != session.communicator().rank()) return;
  const ElementType compute = session.model().compute();
  const config::LinearFamily& family = model.linear.family();
  const config::StateShape state = family.state(model);
  const std::string name = place(layer, sequence);
  load_row(files, name + "state", {state.heads, state.key_dim, state.value_dim},
           accumulate_type(compute), sequence, cache,
           cache.layers[layer].states);
  const std::int64_t width = model.linear.convolution();
  if (width == 0) return;
  load_row(files, name + "tail",
           {width - 1, static_cast<std::int64_t>(family.convolved(model))},
           compute, sequence, cache, cache.layers[layer].tails);
}

}  // namespace

void save_cache(const Session& session, const std::string& weights,
                const std::string& folder) {
  comm::Communicator& ranks = session.communicator();
  const bool leads = ranks.rank() == 0;
  std::optional<checkpoint::NewFolder> made;
  std::string partial;
  comm::together<InvalidArgument>(ranks, [&] {
    if (leads) partial = made.emplace(folder, "--save-cache").partial();
  });
  partial = ranks.all_gather(partial)[0];
  checkpoint::Manifest sums;
  comm::together<Error>(ranks, [&] {
    const OwnTensors own = own_tensors(session.cache(), ranks.rank());
    const std::string name = rank_file(ranks.rank());
    sums[name] =
        checkpoint::write_safetensors(partial + "/" + name, own.tensors);
    if (!leads) return;
    sums[kFile] = checkpoint::write_durable(
        partial + "/" + kFile, description(session, weights).dump(2) + "\n");
  });
  for (const std::string& theirs :
       ranks.all_gather(checkpoint::to_json(sums).dump())) {
    sums.merge(checkpoint::manifest_from_json(Json::parse(theirs), partial));
  }
  comm::together<Error>(ranks, [&] {
    if (!leads) return;
    checkpoint::write_manifest(partial, sums);
    made->complete();
  });
}

std::vector<std::int64_t> cached_tokens(const std::string& folder) {
  return read_description(folder).tokens;
}

void load_cache(const std::string& folder, const std::string& weights,
                Session& session) {
  comm::Communicator& ranks = session.communicator();
  models::Cache& cache = session.cache();
  comm::together<InvalidArgument>(ranks, [&] {
    const Description described = read_description(folder);
    const config::ModelConfig& model = session.model().config();
    require(described.model == model && described.weights == weights &&
                described.compute == name(session.model().compute()),
            "[{}] got a cache of another model, of other weights or of "
            "another type; want one of this model in {}",
            folder, name(session.model().compute()));
    require(described.tokens.size() == session.sequences(),
            "[{}] got a cache of {} sequences; want {}", folder,
            described.tokens.size(), session.sequences());
    const Files files(folder, described.ranks, ranks);
    cache.tokens = described.tokens;
    for (std::size_t s = 0; s < session.sequences(); ++s) {
      for (std::int64_t p = 0; p < cache.tokens[s]; ++p) {
        ++cache.kept[s][taker(p, cache.ranks())];
      }
      if (cache.tokens[s] == 0) continue;
      for (std::int64_t i = 0; i < model.layers; ++i) {
        const auto layer = static_cast<std::size_t>(i);
        if (model.is_linear(i)) {
          load_state(files, layer, s, session);
        } else {
          load_keys(files, layer, s, session);
        }
      }
    }
  });
}

}  // namespace ringweave::generate
