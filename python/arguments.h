// The arguments that operators share: where tokens are, and what they see.
//
// What a compiled graph has as constants comes as texts and numbers, what
// differs from batch to batch as symbolic integers and tensors:
//
//   group         the name of the program's process group
//   layout        a kind of layout by its name, or the JSON of a whole one
//   tokens, ranks of the layout
//   mask          a kind of mask by its name, or the JSON of a whole one
//   left, right   sides of its window
//   documents     int64 offsets on the CPU, as schedule::Mask::with_documents()
//                 takes them
//   plan          the path of a plan file
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"

namespace ringweave::python {

/// What a kernel is told of layout and mask. References are to its arguments.
struct Placement {
  const std::string& layout;
  std::int64_t tokens;
  std::int64_t ranks;
};
struct Visibility {
  const std::string& mask;
  std::optional<std::int64_t> left, right;
  const std::optional<at::Tensor>& documents;
};

/// Throw InvalidArgument for what is none.
schedule::Layout layout_of(const Placement& placement);
schedule::Mask mask_of(const Visibility& visibility);

/// Bytes that are equal for equal arguments: comparing them costs less than
/// making what the arguments stand for.
class Key {
 public:
  Key& add(std::string_view text);
  Key& add(std::int64_t number);
  Key& add(std::optional<std::int64_t> number);
  Key& add(const Placement& placement);
  /// Of documents, what is in the tensor.
  Key& add(const Visibility& visibility);
  /// A file's path and age, and shapes and types of what its plan is compared
  /// with; without a plan `other`.
  Key& add(const std::optional<std::string>& plan, std::string_view other,
           const at::Tensor& q, const at::Tensor& k);

  const std::string& bytes() const { return bytes_; }
  std::int64_t hash() const;

 private:
  std::string bytes_;
};

/// What backward is told of its forward, as a tensor: the number of its call, 0
/// on a rank that is alone, and what its plan was found by.
at::Tensor call_record(const comm::Communicator& communicator,
                       std::int64_t number, const Key& key);
/// The number. Throws InvalidArgument if the key is another one.
std::int64_t call_number(const at::Tensor& record, const Key& key,
                         std::string_view operation);

/// Runs of a rank, at most, and of all ranks together. 0 for what layout_of()
/// refuses: shapes are asked for before arguments are.
struct RunCounts {
  std::int64_t largest = 0;
  std::int64_t all = 0;
};
RunCounts run_counts(const std::string& layout, std::int64_t ranks);

/// Throws InvalidArgument unless the plan file is for this call: of the model,
/// what can be seen in one call is compared.
void check_fits(const planner::PlanFile& plan, const std::string& path,
                const at::Tensor& q, const at::Tensor& k,
                const schedule::Layout& layout, const schedule::Mask& mask,
                int ranks);

}  // namespace ringweave::python
