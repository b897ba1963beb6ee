#include "ringweave/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"

namespace ringweave::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format's numbers are little-endian");

constexpr const char* kMetadata = "__metadata__";
constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
/// The format's own limit.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
/// What follows a header starts at a multiple of it.
constexpr std::size_t kAlignment = 64;

struct TypeFacts {
  DataType type;
  const char* in_file;
  const char* name;
  std::int64_t bytes;
};
constexpr std::array kTypes = {
    TypeFacts{DataType::float64, "F64", "float64", 8},
    TypeFacts{DataType::float32, "F32", "float32", 4},
    TypeFacts{DataType::bfloat16, "BF16", "bfloat16", 2},
    TypeFacts{DataType::float16, "F16", "float16", 2},
    TypeFacts{DataType::int64, "I64", "int64", 8},
    TypeFacts{DataType::uint32, "U32", "uint32", 4},
    TypeFacts{DataType::uint16, "U16", "uint16", 2},
};

constexpr std::array kFloats = {DataType::float64, DataType::float32,
                                DataType::bfloat16, DataType::float16};

const TypeFacts& facts(DataType type) {
  return *std::ranges::find(kTypes, type, &TypeFacts::type);
}

/// Bytes that a type and a shape take; nullopt if more than any file has.
std::optional<std::int64_t> size_of(DataType type,
                                    const std::vector<std::int64_t>& shape) {
  // A size of 0 makes it none, however large the others are.
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  std::int64_t bytes = facts(type).bytes;
  for (const std::int64_t size : shape) {
    if (bytes > std::numeric_limits<std::int64_t>::max() / size) return {};
    bytes *= size;
  }
  return bytes;
}

/// Of a tensor that is in memory, or will be.
std::size_t bytes_of(const NamedTensor& tensor) {
  return static_cast<std::size_t>(size_of(tensor.type, tensor.shape).value());
}

std::string header_of(const std::vector<NamedTensor>& tensors,
                      const Metadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::size_t begin = 0;
  for (const NamedTensor& tensor : tensors) {
    const std::size_t end = begin + bytes_of(tensor);
    ensure(!header.contains(tensor.name), "two tensors {}", tensor.name);
    header[tensor.name] = {{"dtype", facts(tensor.type).in_file},
                           {"shape", tensor.shape},
                           {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  const std::size_t rest = (kLengthBytes + text.size()) % kAlignment;
  if (rest != 0) text.append(kAlignment - rest, ' ');
  return text;
}

NamedTensor read_tensor(const std::string& name, JsonObject object,
                        std::span<const std::byte> data) {
  std::vector<std::string> types;
  for (const TypeFacts& type : kTypes) types.emplace_back(type.in_file);
  const std::string type = object.choice("dtype", types);
  const auto shape = object.integers("shape");
  const auto offsets = object.integers("data_offsets");
  object.done();
  const auto known = std::ranges::find(types, type) - types.begin();
  NamedTensor tensor{.name = name, .type = kTypes[known].type, .shape = shape};
  for (const std::int64_t size : shape) {
    require(size >= 0, "[{}.shape] got {}; want sizes of at least 0",
            object.path(), size);
  }
  require(offsets.size() == 2 && offsets[0] >= 0 && offsets[0] <= offsets[1] &&
              offsets[1] <= static_cast<std::int64_t>(data.size()),
          "[{}.data_offsets] got [{}]; want a begin and an end within the {} "
          "bytes of data",
          object.path(), fmt::join(offsets, ", "), data.size());
  const auto bytes = size_of(tensor.type, shape);
  require(bytes == offsets[1] - offsets[0],
          "[{}] got {} bytes of data; want {}, which {} takes", object.path(),
          offsets[1] - offsets[0],
          bytes ? fmt::format("{}", *bytes) : "more than a file has",
          describe(tensor));
  tensor.data = data.subspan(static_cast<std::size_t>(offsets[0]),
                             static_cast<std::size_t>(*bytes));
  return tensor;
}

/// Sorts by place, and checks that the tensors tile the data.
void check_tiled(std::vector<NamedTensor>& tensors,
                 std::span<const std::byte> data, const std::string& path) {
  std::ranges::stable_sort(tensors, [](const auto& a, const auto& b) {
    return std::pair(a.data.data(), a.data.size()) <
           std::pair(b.data.data(), b.data.size());
  });
  const std::byte* at = data.data();
  for (const NamedTensor& tensor : tensors) {
    require(tensor.data.data() == at,
            "[{}] got {} at byte {} of the data; want it at {}, where the one "
            "before it ends",
            path, tensor.name, tensor.data.data() - data.data(),
            at - data.data());
    at += tensor.data.size();
  }
  require(at == data.data() + data.size(),
          "[{}] got {} bytes of data; want {}, which the tensors take", path,
          data.size(), at - data.data());
}

Metadata read_metadata(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  Metadata metadata;
  for (const auto& [key, text] : json.items()) {
    metadata[key] = object.string(key);
  }
  return metadata;
}

}  // namespace

DataType data_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return DataType::float64;
    case ElementType::float32:
      return DataType::float32;
    case ElementType::bfloat16:
      return DataType::bfloat16;
    case ElementType::float16:
      break;
  }
  return DataType::float16;
}

std::string name(DataType type) { return facts(type).name; }

DataType float_type_from_name(const std::string& name,
                              const std::string& where) {
  std::vector<std::string> names;
  for (const DataType type : kFloats) names.push_back(checkpoint::name(type));
  return kFloats[place_of(name, names, where)];
}

bool is_float(DataType type) {
  return std::ranges::find(kFloats, type) != kFloats.end();
}

std::string describe(const NamedTensor& tensor) {
  return fmt::format("{} [{}]", facts(tensor.type).name,
                     fmt::join(tensor.shape, ", "));
}

FileSum write_safetensors(const std::string& path,
                          const std::vector<NamedTensor>& tensors,
                          const DataOf& data, const Metadata& metadata) {
  const std::string header = header_of(tensors, metadata);
  const std::uint64_t length = header.size();
  DurableFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(std::span(header)));
  for (const NamedTensor& tensor : tensors) {
    const auto bytes = data(tensor);
    ensure(bytes.size() == bytes_of(tensor), "{} bytes of {}", bytes.size(),
           tensor.name);
    file.write(bytes);
  }
  return file.finish();
}

FileSum write_safetensors(const std::string& path,
                          const std::vector<NamedTensor>& tensors,
                          const Metadata& metadata) {
  return write_safetensors(
      path, tensors, [](const NamedTensor& tensor) { return tensor.data; },
      metadata);
}

Safetensors parse_safetensors(std::span<const std::byte> bytes,
                              const std::string& path) {
  require(bytes.size() >= kLengthBytes,
          "[{}] got {} bytes; want a safetensors file, which has at least {}",
          path, bytes.size(), kLengthBytes);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  bytes = bytes.subspan(kLengthBytes);
  require(length <= std::min<std::uint64_t>(bytes.size(), kMaxHeaderBytes),
          "[{}] got a header of {} bytes in a file of {}; want a safetensors "
          "file, which holds its header of at most {} bytes",
          path, length, bytes.size() + kLengthBytes, kMaxHeaderBytes);
  const Json header =
      parse_json({reinterpret_cast<const char*>(bytes.data()), length}, path);
  const auto data = bytes.subspan(length);
  require(header.is_object(), "[{}] got a header that is no JSON object", path);
  Safetensors parsed;
  for (const auto& [name, value] : header.items()) {
    const std::string where = fmt::format("{}: {}", path, name);
    if (name == kMetadata) {
      parsed.metadata = read_metadata(value, where);
    } else {
      parsed.tensors.push_back(
          read_tensor(name, JsonObject(value, where), data));
    }
  }
  check_tiled(parsed.tensors, data, path);
  return parsed;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : path_(path),
      file_(path, "a readable safetensors file"),
      parsed_(parse_safetensors(file_.bytes(), path)) {}

std::vector<NamedTensor> SafetensorsFile::take(
    const std::vector<NamedTensor>& wanted) const {
  std::map<std::string_view, const NamedTensor*> by_name;
  for (const NamedTensor& tensor : tensors()) by_name[tensor.name] = &tensor;
  std::vector<NamedTensor> taken;
  for (const NamedTensor& want : wanted) {
    const auto found = by_name.find(want.name);
    require(found != by_name.end(), "[{}] got no tensor {}; want it as {}",
            path_, want.name, describe(want));
    const NamedTensor& got = *found->second;
    require(got.type == want.type && got.shape == want.shape,
            "[{}] got tensor {} as {}; want {}", path_, got.name, describe(got),
            describe(want));
    taken.push_back(got);
    by_name.erase(found);
  }
  require(by_name.empty(), "[{}] got a tensor {}; want none of that name",
          path_, by_name.empty() ? "" : by_name.begin()->first);
  return taken;
}

}  // namespace ringweave::checkpoint
