#include "tests/fuzz/parsers.h"

#include <span>
#include <stdexcept>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/checkpoint/state.h"
#include "ringweave/checkpoint/weights_folder.h"
#include "ringweave/config/hugging_face.h"
#include "ringweave/config/run_to_plan.h"
#include "ringweave/data/source.h"
#include "ringweave/discovery/machine_table.h"
#include "ringweave/planner/cost/device_table.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/topology/builtin.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::fuzz {
namespace {

constexpr const char* kFile = "file";

/// What was written of a value must be read as the same value.
template <typename Read>
void read_twice(const std::string& text, Read read) {
  const auto value = read(parse_json(text, kFile));
  const Json written = to_json(value);
  if (to_json(read(written)) != written) {
    throw std::logic_error("reads back another value than was written");
  }
}

void read_layout(const std::string& text) {
  const auto layout =
      schedule::Layout::from_json(parse_json(text, kFile), kFile);
  if (schedule::Layout::from_json(layout.to_json(), kFile) != layout) {
    throw std::logic_error("reads back another layout than was written");
  }
}

void read_mask(const std::string& text) {
  const auto mask = schedule::Mask::from_json(parse_json(text, kFile), kFile);
  const schedule::Run run{.begin = 0, .length = 64, .stride = 1};
  const auto pairs = mask.pairs(run, run);
  if (pairs < 0 || pairs > run.length * run.length || mask.text().empty()) {
    throw std::logic_error("sees more pairs than there are");
  }
  if (schedule::Mask::from_json(mask.to_json(), kFile) != mask) {
    throw std::logic_error("reads back another mask than was written");
  }
}

void read_plan(const std::string& text) {
  read_twice(text, [](const Json& json) {
    return planner::plan_file_from_json(json, kFile);
  });
}

/// The seeds are schedules of this demand.
void read_schedule(const std::string& text) {
  const auto schedule =
      schedule::schedule_from_json(parse_json(text, kFile), kFile);
  const auto layout = schedule::Layout::zigzag(16, 2);
  const schedule::AttentionDemand demand(layout, layout,
                                         schedule::Mask::causal());
  schedule::validate(schedule, demand, schedule::strand_count(schedule));
}

/// Regular fabrics may have 4 million links, which all take time: theirs are
/// made for few ranks.
constexpr int kMostRanks = 64;

bool is_large_fabric(const Json& json) {
  const Json fabric = json.is_object() ? json.value("fabric", Json()) : Json();
  const Json ranks =
      fabric.is_object() ? fabric.value("ranks", Json()) : Json();
  return ranks.is_number() && ranks > kMostRanks;
}

void read_topology(const std::string& text) {
  if (is_large_fabric(parse_json(text, kFile))) return;
  read_twice(text, [](const Json& json) {
    return topology::topology_from_json(json, kFile);
  });
}

void read_builtin(const std::string& text) {
  const auto fabric = topology::builtin_fabric(text);
  if (!fabric || fabric->ranks <= kMostRanks) topology::builtin(text);
}

void read_device_table(const std::string& text) {
  read_twice(text, [](const Json& json) {
    return planner::device_table_from_json(json, kFile);
  });
}

void read_config(const std::string& text) {
  config::run_to_plan_from_json(parse_json(text, kFile), kFile);
}

void read_hugging_face(const std::string& text) {
  const auto read = [](const Json& json) {
    return config::model_config_from_hugging_face(json, kFile);
  };
  const Json json = parse_json(text, kFile);
  const config::ModelConfig model = read(json);
  config::compute_from_hugging_face(json, kFile);
  config::end_tokens_from_hugging_face(json, kFile);
  if (read(config::to_hugging_face(model, "float32", 1)) != model) {
    throw std::logic_error("reads back another model than was written");
  }
}

void read_weights_index(const std::string& text) {
  checkpoint::weights_index_from_json(parse_json(text, kFile), kFile);
}

void read_state(const std::string& text) {
  read_twice(text, [](const Json& json) {
    return checkpoint::state_from_json(json, kFile);
  });
}

void read_safetensors(const std::string& text) {
  std::size_t bytes = 0;
  for (const auto& tensor :
       checkpoint::parse_safetensors(std::as_bytes(std::span(text)), kFile)
           .tensors) {
    bytes += tensor.data.size();
  }
  if (bytes > text.size()) throw std::logic_error("tensors beyond the file");
}

/// A file of texts or tokens whose bytes these are; all its tokens are read.
void read_source(const std::string& text, const std::string& format) {
  constexpr std::int64_t kVocabulary = 1 << 16;
  const int file = memfd_create(kFile, 0);
  const std::string path = fmt::format("/proc/self/fd/{}", file);
  const struct Closer {
    int file;
    ~Closer() { close(file); }
  } closer{file};
  if (write(file, text.data(), text.size()) !=
      static_cast<ssize_t>(text.size())) {
    throw std::logic_error("no memory for a file");
  }
  const auto source = data::open_source(
      path, {.format = format, .vocab_size = kVocabulary, .documents = true});
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(source->tokens()));
  source->read({0, source->tokens()}, tokens.data());
  for (const std::int64_t token : tokens) {
    if (token < 0 || token >= kVocabulary) {
      throw std::logic_error("reads a token that there is not");
    }
  }
  for (std::int64_t i = 0; i < source->documents(); ++i) {
    if (source->offset(i) > source->offset(i + 1)) {
      throw std::logic_error("a document ends before it begins");
    }
  }
}

void read_json_lines(const std::string& text) {
  read_source(text, "json_lines");
}

void read_tokens(const std::string& text) { read_source(text, "tokens"); }

void read_nvidia_smi(const std::string& text) {
  topology_from_table(text, discovery::TableKind::nvidia_smi, {}, kFile)
      .check_connected();
}

void read_rocm_smi(const std::string& text) {
  topology_from_table(text, discovery::TableKind::rocm_smi, {}, kFile)
      .check_connected();
}

}  // namespace

const std::vector<Parser>& parsers() {
  static const std::vector<Parser> all = {
      {"layout", read_layout},
      {"mask", read_mask},
      {"plan", read_plan},
      {"schedule", read_schedule},
      {"topology", read_topology},
      {"builtin", read_builtin},
      {"device_table", read_device_table},
      {"config", read_config},
      {"hugging_face", read_hugging_face},
      {"weights_index", read_weights_index},
      {"safetensors", read_safetensors},
      {"state", read_state},
      {"json_lines", read_json_lines},
      {"tokens", read_tokens},
      {"nvidia_smi", read_nvidia_smi},
      {"rocm_smi", read_rocm_smi},
  };
  return all;
}

void feed(const Parser& parser, const std::string& text) {
  try {
    parser.read(text);
  } catch (const InvalidArgument&) {
    // as promised
  } catch (const NoSolution&) {
  }
}

}  // namespace ringweave::fuzz
