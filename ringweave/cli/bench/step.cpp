#include "ringweave/cli/bench/step.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/cli/bench/transfers.h"

namespace ringweave::cli {
namespace {

using schedule::Pass;

constexpr const char* kRecomputeBlock = "block";
constexpr const char* kRecomputeMlp = "mlp";

/// Multiply-adds of a token with so many weights.
double product_flop(double weights) { return 2 * weights; }

}  // namespace

Step::Step(config::TrainConfig config, const train::Exchanges& exchanges,
           planner::DeviceTable device_table, const char* where)
    : config_(std::move(config)),
      device_table_(std::move(device_table)),
      layout_(schedule::Layout::named(config_.parallel.layout,
                                      config_.data.seq_len,
                                      config_.parallel.sequence_ranks())) {
  require(config_.data.documents == "ignore",
          "{} got data.documents {}; want ignore with --topology or --compute "
          "emulate, as masks of documents differ from step to step",
          where, config_.data.documents);
  require(config_.parallel.grad_payload == "float32",
          "{} got parallel.grad_payload {}; want float32 with --topology or "
          "--compute emulate",
          where, config_.parallel.grad_payload);
  const config::ModelConfig& model = config_.model;
  const planner::ModelShape shape = train::model_shape(config_);
  const auto make = [&](bool linear, std::int64_t window) {
    const auto pass = [&](Pass pass) -> std::shared_ptr<const Exchanged> {
      if (linear) {
        return exchanged_linear(exchanges.linear, layout_, model.causal, pass,
                                shape, device_table_);
      }
      return exchanged_attention(
          exchanges.softmax, layout_,
          config::with_sliding_window(config::whole_mask(model), window), pass,
          shape, device_table_);
    };
    return Kind{.linear = linear,
                .window = window,
                .forward = pass(Pass::forward),
                .backward = pass(Pass::backward),
                .products_flop =
                    product_flop(config::layer_weight_count(model, linear))};
  };
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    const bool linear = model.is_linear(layer);
    const std::int64_t window = linear ? 0 : model.sliding_window(layer);
    const auto found = std::ranges::find_if(kinds_, [&](const Kind& kind) {
      return kind.linear == linear && kind.window == window;
    });
    layers_.push_back(static_cast<std::size_t>(found - kinds_.begin()));
    if (found == kinds_.end()) kinds_.push_back(make(linear, window));
  }
}

std::int64_t Step::runs(Pass pass) const {
  const bool again =
      pass == Pass::forward && config_.parallel.recompute == kRecomputeBlock;
  return config_.parallel.accumulation * (again ? 2 : 1);
}

std::int64_t Step::numbers() const {
  return static_cast<std::int64_t>(config::weight_count(config_.model));
}

std::int64_t Step::number_bytes() const {
  return element_bytes(accumulate_type(config_.compute));
}

std::vector<train::Bucket> Step::buckets() const {
  const config::ModelConfig& model = config_.model;
  std::vector<std::int64_t> begins;
  // The embedding comes first.
  std::int64_t begin = model.vocab_size * model.hidden;
  for (std::int64_t layer = 0; layer < layers(); ++layer) {
    begins.push_back(begin);
    begin += static_cast<std::int64_t>(
        config::layer_weight_count(model, model.is_linear(layer)));
  }
  return train::gradient_buckets(begins, numbers(), number_bytes(),
                                 config_.parallel.bucket_bytes);
}

void Step::play(Rank rank, Actor& actor) const {
  for (int i = 0; i < config_.parallel.accumulation; ++i) {
    play_part(rank, i + 1 == config_.parallel.accumulation, actor);
  }
}

void Step::play_part(Rank rank, bool last, Actor& actor) const {
  const config::ModelConfig& model = config_.model;
  const double tokens =
      static_cast<double>(config::sequences_at_a_time(config_)) *
      static_cast<double>(layout_.shard_tokens(rank));
  const auto products = [&](double flop) {
    actor.compute(device_table_.flop_seconds(flop * tokens));
  };
  // Backward has two products for each one forward.
  constexpr double kBackward = 2;
  const std::string& recompute = config_.parallel.recompute;
  for (std::int64_t layer = 0; layer < layers(); ++layer) {
    products(kind(layer).products_flop);
    actor.exchange(kind(layer), Pass::forward);
  }
  products((1 + kBackward) *
           product_flop(static_cast<double>(model.hidden) *
                        static_cast<double>(model.vocab_size)));
  for (std::int64_t layer = layers() - 1; layer >= 0; --layer) {
    const Kind& of = kind(layer);
    if (recompute == kRecomputeBlock) {
      products(of.products_flop);
      actor.exchange(of, Pass::forward);
    } else if (recompute == kRecomputeMlp) {
      products(product_flop(config::mlp_weight_count(model)));
    }
    products(kBackward * of.products_flop);
    actor.exchange(of, Pass::backward);
    if (last) actor.layer_done(layer);
  }
}

double memory_bytes(const Step& step) {
  double bytes = static_cast<double>(step.numbers() * step.number_bytes());
  for (const Step::Kind& kind : step.kinds()) {
    bytes += memory_bytes(*kind.forward) + memory_bytes(*kind.backward);
  }
  return bytes;
}

}  // namespace ringweave::cli
