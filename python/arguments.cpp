#include "python/arguments.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <system_error>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"

namespace ringweave::python {
namespace {

bool is_json(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && text[first] == '{';
}

std::vector<std::int64_t> offsets_of(const at::Tensor& documents) {
  require(documents.scalar_type() == at::kLong && documents.dim() == 1 &&
              documents.device().is_cpu(),
          "[mask] got document offsets of shape {}, type {}, on {}; want one "
          "dimension of int64 on the cpu",
          tensor::shape_text(documents.sizes()),
          c10::toString(documents.scalar_type()), documents.device().str());
  const at::Tensor offsets = documents.contiguous();
  const auto* begin = offsets.const_data_ptr<std::int64_t>();
  return {begin, begin + offsets.numel()};
}

/// A file's text in the key of what was made from it: another one when the file
/// has changed.
std::string version_of(const std::string& path) {
  std::error_code absent;  // read_plan_file() says so, and better
  const auto written = std::filesystem::last_write_time(path, absent);
  return fmt::format("{} {}", path, written.time_since_epoch().count());
}

}  // namespace

schedule::Layout layout_of(const Placement& placement) {
  const auto& [layout, tokens, ranks] = placement;
  const Json json =
      is_json(layout)
          ? parse_json(layout, "layout")
          : Json{{"kind", layout}, {"tokens", tokens}, {"ranks", ranks}};
  return schedule::Layout::from_json(json, "layout");
}

schedule::Mask mask_of(const Visibility& visibility) {
  const auto& [text, left, right, documents] = visibility;
  const Json json =
      is_json(text) ? parse_json(text, "mask") : Json{{"kind", text}};
  schedule::Mask mask = schedule::Mask::from_json(json, "mask");
  if (left || right) mask = mask.with_window({left, right});
  return documents ? mask.with_documents(offsets_of(*documents)) : mask;
}

Key& Key::add(std::int64_t number) {
  bytes_.append(reinterpret_cast<const char*>(&number), sizeof number);
  return *this;
}

Key& Key::add(std::string_view text) {
  add(static_cast<std::int64_t>(text.size()));
  bytes_.append(text);
  return *this;
}

Key& Key::add(std::optional<std::int64_t> number) {
  return add(std::int64_t{number.has_value()}).add(number.value_or(0));
}

Key& Key::add(const Placement& placement) {
  return add(placement.layout).add(placement.tokens).add(placement.ranks);
}

Key& Key::add(const Visibility& visibility) {
  add(visibility.mask).add(visibility.left).add(visibility.right);
  if (!visibility.documents) return add(std::int64_t{-1});
  const std::vector<std::int64_t> offsets = offsets_of(*visibility.documents);
  return add(std::string_view(reinterpret_cast<const char*>(offsets.data()),
                              offsets.size() * sizeof(std::int64_t)));
}

Key& Key::add(const std::optional<std::string>& plan, std::string_view other,
              const at::Tensor& q, const at::Tensor& k) {
  if (!plan) return add(std::int64_t{0}).add(other);
  return add(std::int64_t{1})
      .add(version_of(*plan))
      .add(fmt::format("{} {} {}", tensor::shape_text(q.sizes()),
                       tensor::shape_text(k.sizes()),
                       c10::toString(q.scalar_type())));
}

std::int64_t Key::hash() const {
  return static_cast<std::int64_t>(std::hash<std::string>()(bytes_));
}

at::Tensor call_record(const comm::Communicator& communicator,
                       std::int64_t number, const Key& key) {
  at::Tensor record = at::empty({2}, at::kLong);
  auto* values = record.mutable_data_ptr<std::int64_t>();
  values[0] = communicator.size() == 1 ? 0 : number;
  values[1] = key.hash();
  return record;
}

std::int64_t call_number(const at::Tensor& record, const Key& key,
                         std::string_view operation) {
  const auto* values = record.const_data_ptr<std::int64_t>();
  require(values[1] == key.hash(),
          "[{}] got other arguments than its forward, or its plan file has "
          "changed since; want the same",
          operation);
  return values[0];
}

RunCounts run_counts(const std::string& layout, std::int64_t ranks) {
  if (!is_json(layout)) {
    const std::int64_t of_each = layout == "zigzag" ? 2 : 1;
    return {of_each, of_each * ranks};
  }
  try {
    const schedule::Layout whole = layout_of({layout, 0, 0});
    RunCounts counts;
    for (Rank rank = 0; rank < whole.ranks(); ++rank) {
      const std::int64_t of_rank = whole.parts(rank);
      counts.largest = std::max(counts.largest, of_rank);
      counts.all += of_rank;
    }
    return counts;
  } catch (const Error&) {
    return {};
  }
}

void check_fits(const planner::PlanFile& plan, const std::string& path,
                const at::Tensor& q, const at::Tensor& k,
                const schedule::Layout& layout, const schedule::Mask& mask,
                int ranks) {
  const auto type = tensor::element_type(q.scalar_type());
  if (q.dim() != 4 || !type) return;  // refused with other shapes and types
  planner::ModelShape shape = plan.model;
  shape.heads = q.size(2);
  shape.kv_heads = k.dim() == 4 ? k.size(2) : 0;  // refused later
  shape.head_dim = q.size(3);
  shape.batch = q.size(0);
  shape.type = *type;
  planner::check_fits(plan, path, ranks, shape, layout.tokens(),
                      layout.to_json().at("kind").get<std::string>(), mask);
}

}  // namespace ringweave::python
