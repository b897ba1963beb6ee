#include "ringweave/cli/bench/emulated_attention.h"

#include <memory>
#include <utility>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/bench/exchange_report.h"
#include "ringweave/cli/bench/exchanged.h"
#include "ringweave/planner/cost/device.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/planner/search/searched.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

std::optional<topology::Topology> load(const std::string& name, int ranks) {
  if (name.empty()) return std::nullopt;
  topology::Topology topology = topology::load_topology(name);
  check_ranks(topology, name, ranks, kBenchAttentionWhere);
  return topology;
}

}  // namespace

EmulatedAttention prepare_emulated(
    const BenchOptions& options, std::int64_t kv_heads,
    const EmulatedOptions& emulated, const std::vector<std::string>& names,
    const std::optional<schedule::Strategy>& planned, int ranks_here) {
  require(!emulated.device.empty(),
          "{} got --compute emulate without --device; want the device whose "
          "times ranks wait for",
          kBenchAttentionWhere);
  require(options.threads == 1,
          "{} got --threads {} with --compute emulate; want none, as nothing "
          "is computed",
          kBenchAttentionWhere, options.threads);
  const planner::ModelShape shape{.heads = options.heads,
                                  .kv_heads = kv_heads,
                                  .head_dim = options.head_dim,
                                  .type = element_type_from_name(options.dtype),
                                  .batch = options.batch};
  const planner::Device device = planner::load_device(emulated.device);
  planner::check_dtype(device, shape.type);
  EmulatedAttention attention;
  attention.options = options;
  attention.kv_heads = kv_heads;
  attention.emulated = emulated;
  attention.topology = load(emulated.topology, options.ranks);
  attention.facts = {{"device", to_json(device).dump()}};
  if (attention.topology) {
    attention.facts["topology"] = to_json(*attention.topology).dump();
  }
  const schedule::Layout layout = layout_of(options);
  const std::int64_t tokens = (options.seq_len - 1) / options.ranks + 1;
  for (const std::string& name : names) {
    const schedule::Strategy strategy =
        planned              ? *planned
        : attention.topology ? planner::strategy_on(*attention.topology, name)
                             : schedule::strategy_from_name(name);
    schedule::strand_count(strategy, options.ranks);
    const auto add = [&](schedule::Pass pass, std::int64_t token_bytes) {
      attention.subjects.push_back(
          {{name, pass, tokens * token_bytes},
           exchanged_attention(strategy, layout, options.mask, pass, shape,
                               device)});
    };
    add(schedule::Pass::forward, shape.kv_token_bytes());
    if (!options.forward_only) {
      add(schedule::Pass::backward, shape.grad_token_bytes());
    }
  }
  check_memory(attention.subjects, ranks_here, kBenchAttentionWhere);
  return attention;
}

void run(const EmulatedAttention& attention, const Context& context) {
  const BenchOptions& options = attention.options;
  const ExchangeRuns runs =
      run_exchanges(context.engine, options.ranks, options.repeat,
                    attention.subjects, attention.topology);
  if (!context.leads()) return;
  if (options.json) {
    Json json = facts_of("attention", options);
    json.erase("threads");
    json["kv_heads"] = attention.kv_heads;
    json["compute"] = "emulate";
    json["device"] = attention.emulated.device;
    json["topology"] = attention.emulated.topology;
    json.update(to_json(runs));
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print(
      "{}\nEMULATED compute: ranks wait as long as {} would compute\n{} ranks, "
      "medians of {}\n\n{}",
      title_of("attention", options), attention.emulated.device, options.ranks,
      options.repeat, text(runs));
}

}  // namespace ringweave::cli
