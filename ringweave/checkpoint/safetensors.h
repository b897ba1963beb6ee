// Named tensors in one file, in the format of Hugging Face's safetensors: the
// length of a JSON header as 8 bytes, the header, the tensors' bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "ringweave/base/element_type.h"
#include "ringweave/base/mapped_file.h"
#include "ringweave/checkpoint/durable_file.h"

namespace ringweave::checkpoint {

/// The format has more of them.
enum class DataType {
  float64,
  float32,
  bfloat16,
  float16,
  int64,
  uint32,
  uint16
};

DataType data_type(ElementType type);
/// "float64" and so on.
std::string name(DataType type);
/// One of the types of weights: float64, float32, bfloat16, float16. Throws
/// InvalidArgument, which starts with [where] and lists them.
DataType float_type_from_name(const std::string& name,
                              const std::string& where);
bool is_float(DataType type);

/// `data` belongs to somebody else: row-major, in this machine's byte order,
/// which must be little-endian, not aligned to more than a byte.
struct NamedTensor {
  std::string name;
  DataType type = DataType::float32;
  std::vector<std::int64_t> shape{};
  std::span<const std::byte> data{};
};

/// "float32 [2, 3]".
std::string describe(const NamedTensor& tensor);

/// Texts for readers, by name.
using Metadata = std::map<std::string, std::string>;

/// Writes a new file, which is on disk when this returns. Throws Error if that
/// can't be done.
FileSum write_safetensors(const std::string& path,
                          const std::vector<NamedTensor>& tensors,
                          const Metadata& metadata = {});

/// The bytes of a tensor, asked for once it is that tensor's turn. They need
/// hold only until the next one is asked for.
using DataOf = std::function<std::span<const std::byte>(const NamedTensor&)>;

/// The same, with data that nobody has to hold together: `tensors` are without.
FileSum write_safetensors(const std::string& path,
                          const std::vector<NamedTensor>& tensors,
                          const DataOf& data, const Metadata& metadata = {});

struct Safetensors {
  std::vector<NamedTensor> tensors;  ///< in the order of their data
  Metadata metadata;
};

/// The tensors of a file whose bytes these are; `path` names it in errors.
/// Throws InvalidArgument unless each byte of the data belongs to one tensor,
/// each tensor has the bytes that its type and shape say, its type is a
/// DataType, and no name comes twice.
Safetensors parse_safetensors(std::span<const std::byte> bytes,
                              const std::string& path);

/// A file whose tensors are read where they lie, without a copy.
class SafetensorsFile {
 public:
  /// Throws InvalidArgument if it can't be read, and as parse_safetensors().
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return path_; }
  const MappedFile& file() const { return file_; }
  /// In the order of their data. Their data lives as long as this.
  const std::vector<NamedTensor>& tensors() const { return parsed_.tensors; }
  const Metadata& metadata() const { return parsed_.metadata; }

  /// Throws InvalidArgument, which names the file and the first tensor at
  /// fault, unless it has the tensors of these names, types and shapes, and
  /// no others. Then returns them in the order of `wanted`.
  std::vector<NamedTensor> take(const std::vector<NamedTensor>& wanted) const;

 private:
  std::string path_;
  MappedFile file_;
  Safetensors parsed_;
};

}  // namespace ringweave::checkpoint
