#include "ringweave/train/data.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <string_view>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/base/file.h"
#include "ringweave/base/hash.h"
#include "ringweave/base/splitmix.h"

namespace ringweave::train {
namespace {

std::string read_text(const std::string& path) {
  std::string text = read_file(path, "a readable text file");
  require(!text.empty(), "[data] got an empty file {}; want text in it", path);
  return text;
}

std::string read_texts(const std::vector<std::string>& paths) {
  std::string text;
  for (const std::string& path : paths) text += read_text(path);
  return text;
}

void check_length(const std::string& text, const DataConfig& config,
                  const char* what) {
  require(static_cast<std::int64_t>(text.size()) > config.seq_len,
          "[data] got {} bytes of {} text; want at least {}: one sequence of "
          "{} tokens and the last one's label",
          text.size(), what, config.seq_len + 1, config.seq_len);
}

std::int64_t sequences(const Data& data, const DataConfig& config) {
  if (data.validation.empty()) return 0;
  return (static_cast<std::int64_t>(data.validation.size()) - 1) /
         config.seq_len;
}

void copy_tokens(std::string_view bytes, std::int64_t* row) {
  std::transform(bytes.begin(), bytes.end(), row, [](char byte) {
    return static_cast<std::int64_t>(static_cast<unsigned char>(byte));
  });
}

at::Tensor gather(const std::string& text, std::int64_t length,
                  const std::vector<std::int64_t>& starts) {
  const at::Tensor batch =
      at::empty({static_cast<std::int64_t>(starts.size()), length}, at::kLong);
  auto* row = batch.mutable_data_ptr<std::int64_t>();
  for (const std::int64_t start : starts) {
    copy_tokens(std::string_view(text).substr(static_cast<std::size_t>(start),
                                              static_cast<std::size_t>(length)),
                row);
    row += length;
  }
  return batch;
}

}  // namespace

Data read_data(const DataConfig& config) {
  Data data{.train = read_texts(config.files),
            .validation = read_texts(config.validation_files)};
  if (config.validation_files.empty()) {
    const auto size = static_cast<double>(data.train.size());
    const auto held_back = static_cast<std::size_t>(
        std::llround(size * config.validation_fraction));
    const std::size_t kept = data.train.size() - held_back;
    data.validation = data.train.substr(kept);
    data.train.resize(kept);
  }
  check_length(data.train, config, "training");
  if (!data.validation.empty()) {
    check_length(data.validation, config, "validation");
  }
  return data;
}

std::string hash(const Data& data) {
  const std::uint64_t train = fnv1a(data.train);
  return fmt::format("{:016x}-{:016x}", train, fnv1a(data.validation));
}

at::Tensor training_batch(const Data& data, const DataConfig& config,
                          std::int64_t seed, std::int64_t step) {
  // Starts from which seq_len + 1 bytes fit.
  const auto places = static_cast<std::uint64_t>(data.train.size()) -
                      static_cast<std::uint64_t>(config.seq_len);
  std::vector<std::int64_t> starts;
  for (std::int64_t row = 0; row < config.batch; ++row) {
    const auto sample = static_cast<std::uint64_t>(step * config.batch + row);
    const std::uint64_t drawn =
        splitmix64(splitmix64(static_cast<std::uint64_t>(seed)) ^ sample);
    starts.push_back(static_cast<std::int64_t>(drawn % places));
  }
  return gather(data.train, config.seq_len + 1, starts);
}

std::int64_t validation_batches(const Data& data, const DataConfig& config) {
  return (sequences(data, config) + config.batch - 1) / config.batch;
}

at::Tensor validation_batch(const Data& data, const DataConfig& config,
                            std::int64_t index) {
  const std::int64_t end =
      std::min((index + 1) * config.batch, sequences(data, config));
  std::vector<std::int64_t> starts;
  for (std::int64_t i = index * config.batch; i < end; ++i) {
    starts.push_back(i * config.seq_len);
  }
  return gather(data.validation, config.seq_len + 1, starts);
}

}  // namespace ringweave::train
