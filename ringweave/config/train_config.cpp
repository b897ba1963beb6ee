#include "ringweave/config/train_config.h"

#include <algorithm>
#include <limits>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"
#include "ringweave/schedule/layout/layout.h"

namespace ringweave::config {
namespace {

constexpr int kVersion = 1;

InitConfig init_from_json(JsonObject object) {
  InitConfig config;
  config.from = object.string("from", config.from);
  config.skip = object.strings("skip", config.skip);
  object.done();
  return config;
}

DataConfig data_from_json(JsonObject object) {
  DataConfig config;
  config.files = object.strings("files", config.files);
  config.validation_files =
      object.strings("validation_files", config.validation_files);
  config.validation_fraction =
      object.number("validation_fraction", 0, config.validation_fraction);
  config.format = object.choice("format", data_formats(), config.format);
  if (object.has("text_field")) {
    config.text_field = object.string("text_field");
  }
  if (object.has("end_token"))
    config.end_token = object.integer("end_token", 0);
  config.documents =
      object.choice("documents", {"ignore", "reset"}, config.documents);
  if (object.has("mask_token")) {
    config.mask_token = object.integer("mask_token", 0);
  }
  if (object.has("mask_fraction")) {
    config.mask_fraction = object.number("mask_fraction", 0);
  }
  config.seq_len = object.integer("seq_len", 1, config.seq_len);
  config.batch = object.integer("batch", 1, config.batch);
  object.done();
  return config;
}

OptimizerConfig optimizer_from_json(JsonObject object) {
  OptimizerConfig config;
  config.learning_rate =
      object.number("learning_rate", 0, config.learning_rate);
  config.min_lr_ratio = object.number("min_lr_ratio", 0, config.min_lr_ratio);
  config.warmup_steps = object.integer("warmup_steps", 0, config.warmup_steps);
  config.beta1 = object.number("beta1", 0, config.beta1);
  config.beta2 = object.number("beta2", 0, config.beta2);
  config.eps = object.number("eps", 0, config.eps);
  config.weight_decay = object.number("weight_decay", 0, config.weight_decay);
  config.clip_norm = object.number("clip_norm", 0, config.clip_norm);
  object.done();
  return config;
}

int small_integer(JsonObject& object, const std::string& key, int min,
                  int fallback) {
  constexpr int kMax = std::numeric_limits<int>::max();
  const std::int64_t value = object.integer(key, min, fallback);
  require(value <= kMax, "[{}.{}] got {}; want at most {}", object.path(), key,
          value, kMax);
  return static_cast<int>(value);
}

ParallelConfig parallel_from_json(JsonObject object) {
  ParallelConfig config;
  config.sequence = small_integer(object, "sequence", 0, config.sequence);
  config.data = small_integer(object, "data", 1, config.data);
  const std::int64_t groups = config.data;
  config.ranks = small_integer(object, "ranks", 1,
                               static_cast<int>(std::min<std::int64_t>(
                                   groups * std::max(1, config.sequence),
                                   std::numeric_limits<int>::max())));
  config.accumulation =
      small_integer(object, "accumulation", 1, config.accumulation);
  config.shard_optimizer =
      object.boolean("shard_optimizer", config.shard_optimizer);
  config.bucket_bytes = object.integer("bucket_bytes", 0, config.bucket_bytes);
  constexpr std::int64_t kMaxBucket = std::int64_t{1} << 50;
  require(config.bucket_bytes <= kMaxBucket,
          "[{}.bucket_bytes] got {}; want at most {}", object.path(),
          config.bucket_bytes, kMaxBucket);
  config.recompute =
      object.choice("recompute", {"none", "mlp", "block"}, config.recompute);
  config.layout =
      object.choice("layout", schedule::Layout::names(), config.layout);
  config.softmax = object.string("softmax", config.softmax);
  config.linear = object.string("linear", config.linear);
  config.topology = object.string("topology", config.topology);
  config.device_table = object.string("device_table", config.device_table);
  config.memory_limit_bytes =
      object.number("memory_limit_bytes", 0, config.memory_limit_bytes);
  config.message_overhead_seconds = object.number(
      "message_overhead_seconds", 0, config.message_overhead_seconds);
  config.plan = object.string("plan", config.plan);
  config.grad_payload = object.choice("grad_payload", {"float32", "compute"},
                                      config.grad_payload);
  object.done();
  return config;
}

ValidationConfig validation_from_json(JsonObject object) {
  ValidationConfig config;
  config.every = object.integer("every", 0, config.every);
  config.batches = object.integer("batches", 0, config.batches);
  object.done();
  return config;
}

CheckpointConfig checkpoint_from_json(JsonObject object) {
  CheckpointConfig config;
  config.every_steps = object.integer("every_steps", 0, config.every_steps);
  config.keep_last = object.integer("keep_last", 1, config.keep_last);
  config.keep_every = object.integer("keep_every", 0, config.keep_every);
  object.done();
  return config;
}

TimeOutConfig time_outs_from_json(JsonObject object) {
  TimeOutConfig config;
  config.start_seconds =
      object.number("start_seconds", 0, config.start_seconds);
  config.step_seconds = object.number("step_seconds", 0, config.step_seconds);
  object.done();
  return config;
}

Json to_json(const DataConfig& config) {
  Json json = {{"files", config.files},
               {"validation_files", config.validation_files},
               {"validation_fraction", config.validation_fraction},
               {"format", config.format},
               {"documents", config.documents},
               {"seq_len", config.seq_len},
               {"batch", config.batch}};
  if (config.text_field) json["text_field"] = *config.text_field;
  if (config.end_token) json["end_token"] = *config.end_token;
  if (config.mask_token) json["mask_token"] = *config.mask_token;
  if (config.mask_fraction) json["mask_fraction"] = *config.mask_fraction;
  return json;
}

Json to_json(const OptimizerConfig& config) {
  return {{"learning_rate", config.learning_rate},
          {"min_lr_ratio", config.min_lr_ratio},
          {"warmup_steps", config.warmup_steps},
          {"beta1", config.beta1},
          {"beta2", config.beta2},
          {"eps", config.eps},
          {"weight_decay", config.weight_decay},
          {"clip_norm", config.clip_norm}};
}

Json to_json(const ParallelConfig& config) {
  return {{"ranks", config.ranks},
          {"sequence", config.sequence},
          {"data", config.data},
          {"accumulation", config.accumulation},
          {"shard_optimizer", config.shard_optimizer},
          {"bucket_bytes", config.bucket_bytes},
          {"recompute", config.recompute},
          {"layout", config.layout},
          {"softmax", config.softmax},
          {"linear", config.linear},
          {"topology", config.topology},
          {"device_table", config.device_table},
          {"memory_limit_bytes", config.memory_limit_bytes},
          {"message_overhead_seconds", config.message_overhead_seconds},
          {"plan", config.plan},
          {"grad_payload", config.grad_payload}};
}

void check_data(const DataConfig& config) {
  require(!config.files.empty(),
          "[data.files] got none; want at least one file, folder or pattern");
  require(config.seq_len >= 1, "[data.seq_len] got {}; want at least 1",
          config.seq_len);
  for (const auto* files : {&config.files, &config.validation_files}) {
    require(std::ranges::find(*files, "") == files->end(),
            "[data] got \"\" as a file; want a path");
  }
  place_of(config.format, data_formats(), "data.format");
  place_of(config.documents, {"ignore", "reset"}, "data.documents");
  require(config.batch >= 1, "[data.batch] got {}; want at least 1",
          config.batch);
  require(config.validation_fraction >= 0 && config.validation_fraction < 1,
          "[data.validation_fraction] got {}; want 0 or more and less than 1",
          config.validation_fraction);
}

/// The fields of data that belong to encoders alone, or to the others.
void check_objective(const TrainConfig& config) {
  const DataConfig& data = config.data;
  if (config.model.causal) {
    require(!data.mask_token && !data.mask_fraction,
            "[data] got {} in a model with causal true; want it in encoders "
            "alone, whose model.causal is false",
            data.mask_token ? "mask_token" : "mask_fraction");
    return;
  }
  require(
      data.documents == "ignore",
      "[data.documents] got {} in an encoder; want \"ignore\": its tokens see "
      "the whole sequence",
      data.documents);
  require(data.masked() > 0 && data.masked() <= 1,
          "[data.mask_fraction] got {}; want more than 0 and at most 1",
          data.masked());
  require(data.mask() >= 0 && data.mask() < config.model.vocab_size,
          "[model.vocab_size] got {}; want more than {}, the token in place of "
          "masked ones (data.mask_token)",
          config.model.vocab_size, data.mask());
}

void check_optimizer(const OptimizerConfig& config) {
  require(config.min_lr_ratio <= 1,
          "[optimizer.min_lr_ratio] got {}; want at most 1",
          config.min_lr_ratio);
  require(config.beta1 < 1, "[optimizer.beta1] got {}; want less than 1",
          config.beta1);
  require(config.beta2 < 1, "[optimizer.beta2] got {}; want less than 1",
          config.beta2);
  require(config.eps > 0, "[optimizer.eps] got {}; want more than 0",
          config.eps);
}

void check_parallel(const TrainConfig& config) {
  check_groups(config);
  const ParallelConfig& parallel = config.parallel;
  const schedule::Layout layout = schedule::Layout::named(
      parallel.layout, config.data.seq_len, parallel.sequence_ranks());
  if (config.model.has_linear()) layout.check_runs("parallel.layout");
}

}  // namespace

const std::vector<std::string>& data_formats() {
  static const std::vector<std::string> names = {
      "auto", "text", "json_lines", "tokens", "uint16", "uint32"};
  return names;
}

void check_groups(const TrainConfig& config) {
  const ParallelConfig& parallel = config.parallel;
  for (const auto& [field, value] :
       {std::pair("ranks", parallel.ranks), std::pair("data", parallel.data),
        std::pair("accumulation", parallel.accumulation)}) {
    require(value >= 1, "[parallel.{}] got {}; want at least 1", field, value);
  }
  require(parallel.ranks % parallel.data == 0 &&
              (parallel.sequence == 0 ||
               parallel.sequence == parallel.sequence_ranks()),
          "[parallel] got {} ranks with sequence {} and data {}; want ranks = "
          "sequence · data",
          parallel.ranks, parallel.sequence, parallel.data);
  require(config.data.batch %
                  (std::int64_t{parallel.data} * parallel.accumulation) ==
              0,
          "[data.batch] got {}; want a multiple of {}, which is parallel.data "
          "{} times parallel.accumulation {}",
          config.data.batch,
          std::int64_t{parallel.data} * parallel.accumulation, parallel.data,
          parallel.accumulation);
}

std::int64_t sequences_at_a_time(const TrainConfig& config) {
  const ParallelConfig& parallel = config.parallel;
  return config.data.batch /
         (std::int64_t{parallel.data} * parallel.accumulation);
}

TrainConfig config_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  check_format(object, kConfigFormat, kVersion);
  TrainConfig config;
  object.object("model");  // optional: an absent one reads as {}
  config.model = model_config_from_json(
      object.has("model") ? object.value("model") : Json::object(),
      path + ".model");
  config.init = init_from_json(object.object("init"));
  config.data = data_from_json(object.object("data"));
  config.optimizer = optimizer_from_json(object.object("optimizer"));
  config.steps = object.integer("steps", 0, config.steps);
  config.seed = object.integer("seed", 0, config.seed);
  config.compute = model_type_from_name(
      object.choice("compute", model_type_names(), name(config.compute)));
  config.parallel = parallel_from_json(object.object("parallel"));
  config.validation = validation_from_json(object.object("validation"));
  config.checkpoint = checkpoint_from_json(object.object("checkpoint"));
  config.time_outs = time_outs_from_json(object.object("time_outs"));
  config.threads = small_integer(object, "threads", 0, config.threads);
  object.done();
  return config;
}

Json with_new_names(Json written) {
  const auto section = written.find("parallel");
  if (section == written.end() || !section->is_object()) return written;
  const auto old = section->find("device");
  if (old == section->end()) return written;
  const Json value = *old;
  section->erase(old);
  if (!section->contains("device_table")) (*section)["device_table"] = value;
  return written;
}

TrainConfig read_config(const std::string& path) {
  return config_from_json(read_json_file(path), path);
}

Json to_json(const TrainConfig& config) {
  return {{"format", kConfigFormat},
          {"version", kVersion},
          {"model", to_json(config.model)},
          {"init", {{"from", config.init.from}, {"skip", config.init.skip}}},
          {"data", to_json(config.data)},
          {"optimizer", to_json(config.optimizer)},
          {"steps", config.steps},
          {"seed", config.seed},
          {"compute", name(config.compute)},
          {"parallel", to_json(config.parallel)},
          {"validation",
           {{"every", config.validation.every},
            {"batches", config.validation.batches}}},
          {"checkpoint",
           {{"every_steps", config.checkpoint.every_steps},
            {"keep_last", config.checkpoint.keep_last},
            {"keep_every", config.checkpoint.keep_every}}},
          {"time_outs",
           {{"start_seconds", config.time_outs.start_seconds},
            {"step_seconds", config.time_outs.step_seconds}}},
          {"threads", config.threads}};
}

void check(const TrainConfig& config) {
  check(config.model);
  require(!config.init.from.empty() || config.init.skip.empty(),
          "[init.skip] got {} names and no init.from; want a folder, some of "
          "whose tensors to skip",
          config.init.skip.size());
  check_data(config.data);
  check_objective(config);
  const std::int64_t longest = config.model.max_position_embeddings;
  require(longest == 0 || config.data.seq_len <= longest,
          "[data.seq_len] got {}; want at most {}, which is "
          "model.max_position_embeddings",
          config.data.seq_len, longest);
  check_optimizer(config.optimizer);
  require(config.steps >= 0, "[steps] got {}; want at least 0", config.steps);
  check_parallel(config);
  for (const double seconds :
       {config.time_outs.start_seconds, config.time_outs.step_seconds}) {
    constexpr double kMax = 1e9;  // milliseconds of it fit any clock
    require(seconds > 0 && seconds <= kMax,
            "[time_outs] got {} s; want more than 0 and at most {}", seconds,
            kMax);
  }
  require(config.threads >= 0 && config.threads <= kMaxThreads,
          "[threads] got {}; want 0 … {}", config.threads, kMaxThreads);
}

}  // namespace ringweave::config
