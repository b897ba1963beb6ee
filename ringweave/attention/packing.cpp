#include "ringweave/attention/packing.h"

#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/tensor_buffer.h"

namespace ringweave::attention {
namespace {

using schedule::Program;
using schedule::Run;

/// Numbers that are worth a thread of their own.
constexpr std::int64_t kGrainNumbers = 1 << 15;

enum class Direction { to_wire, from_wire };

/// Numbers of one head, rounded to the type of the target.
template <typename Source, typename Target>
void move_numbers(const Source* from, Target* to, std::int64_t count,
                  bool add) {
  if (!add && std::is_same_v<Source, Target>) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(Target));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<Target>(from[i]);
    to[i] = add ? static_cast<Target>(to[i] + value) : value;
  }
}

/// One of K and V in the caller's layout, any strides but the last.
template <typename T>
struct Strided {
  explicit Strided(const at::Tensor& x)
      : data(x.data_ptr<T>()),
        batch(x.stride(0)),
        token(x.stride(1)),
        head(x.stride(2)) {}

  T* data;
  std::int64_t batch, token, head;
};

/// Moves tokens between the two layouts.
template <typename Ours, typename Wire, Direction kDirection>
class Mover {
 public:
  Mover(const KvPair& ours, const at::Tensor& wire, bool add)
      : sides_{Strided<Ours>(ours.k), Strided<Ours>(ours.v)},
        wire_(wire.data_ptr<Wire>()),
        batch_(wire.size(2)),
        heads_(wire.size(3)),
        dim_(wire.size(4)),
        joined_(sides_[0].head == dim_ && sides_[1].head == dim_),
        add_(add) {}

  std::int64_t unit() const { return 2 * batch_ * heads_ * dim_; }

  void token(std::int64_t local, std::int64_t unit_index) const {
    Wire* wire = wire_ + unit_index * unit();
    const std::int64_t count = joined_ ? heads_ * dim_ : dim_;
    for (const Strided<Ours>& side : sides_) {
      for (std::int64_t batch = 0; batch < batch_; ++batch) {
        Ours* ours = side.data + batch * side.batch + local * side.token;
        for (std::int64_t head = 0; head < (joined_ ? 1 : heads_); ++head) {
          Ours* numbers = ours + head * side.head;
          if constexpr (kDirection == Direction::to_wire) {
            move_numbers(numbers, wire, count, add_);
          } else {
            move_numbers(wire, numbers, count, add_);
          }
          wire += count;
        }
      }
    }
  }

 private:
  Strided<Ours> sides_[2];  // K and V
  Wire* wire_;
  std::int64_t batch_, heads_, dim_;
  bool joined_;  // the heads of a token lie side by side in the caller's layout
  bool add_;
};

template <typename Ours, typename Wire, Direction kDirection>
void move_on_cpu(const KvPair& ours, const std::vector<Program::Packed>& runs,
                 const at::Tensor& wire, bool add) {
  const Mover<Ours, Wire, kDirection> mover(ours, wire, add);
  for (const Program::Packed& run : runs) {
    at::parallel_for(0, run.local.length,
                     std::max<std::int64_t>(1, kGrainNumbers / mover.unit()),
                     [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i) {
                         mover.token(run.local.at(i), run.begin + i);
                       }
                     });
  }
}

template <typename Ours, Direction kDirection>
void move_from(const KvPair& ours, const std::vector<Program::Packed>& runs,
               const at::Tensor& wire, bool add) {
  switch (wire.scalar_type()) {
    case at::kDouble:
      return move_on_cpu<Ours, double, kDirection>(ours, runs, wire, add);
    case at::kFloat:
      return move_on_cpu<Ours, float, kDirection>(ours, runs, wire, add);
    case at::kBFloat16:
      return move_on_cpu<Ours, at::BFloat16, kDirection>(ours, runs, wire, add);
    default:
      throw InternalError("bug in ringweave: keys of a type without a mover");
  }
}

/// (batch, tokens, kv_heads, head_dim) of either K or V.
at::Tensor wire_side(const at::Tensor& wire, std::int64_t begin,
                     std::int64_t length, std::int64_t side) {
  return wire.narrow(0, begin, length).select(1, side).transpose(0, 1);
}

template <Direction kDirection>
void move_anywhere(const KvPair& ours, const std::vector<Program::Packed>& runs,
                   const at::Tensor& wire, bool add) {
  for (const Program::Packed& run : runs) {
    const KvPair tokens = take(ours, run.local);
    for (const auto& [x, side] : {std::pair(tokens.k, 0), {tokens.v, 1}}) {
      const at::Tensor there =
          wire_side(wire, run.begin, run.local.length, side);
      const at::Tensor& to = kDirection == Direction::to_wire ? there : x;
      const at::Tensor& from = kDirection == Direction::to_wire ? x : there;
      if (add) {
        to.add_(from);
      } else {
        to.copy_(from);
      }
    }
  }
}

template <Direction kDirection>
void move(const KvPair& ours, const std::vector<Program::Packed>& runs,
          const at::Tensor& wire, bool add) {
  if (runs.empty()) return;
  if (!wire.is_cpu() || ours.k.stride(-1) != 1 || ours.v.stride(-1) != 1) {
    return move_anywhere<kDirection>(ours, runs, wire, add);
  }
  switch (ours.k.scalar_type()) {
    case at::kDouble:
      return move_from<double, kDirection>(ours, runs, wire, add);
    case at::kFloat:
      return move_from<float, kDirection>(ours, runs, wire, add);
    case at::kBFloat16:
      return move_from<at::BFloat16, kDirection>(ours, runs, wire, add);
    default:
      throw InternalError("bug in ringweave: keys of a type without a mover");
  }
}

}  // namespace

KvPair take(const KvPair& x, const Run& run) {
  return {x.k.slice(1, run.begin, run.end(), run.stride),
          x.v.slice(1, run.begin, run.end(), run.stride)};
}

at::Tensor wire_tensor(const comm::Buffer& buffer, const KvShape& shape,
                       at::ScalarType type) {
  const auto unit_bytes =
      static_cast<std::size_t>(shape.unit()) * at::elementSize(type);
  return comm::tensor_of(buffer,
                         {static_cast<std::int64_t>(buffer.size / unit_bytes),
                          2, shape.batch, shape.kv_heads, shape.head_dim},
                         type);
}

KvPair view(const at::Tensor& wire, const Range& tokens) {
  return {wire_side(wire, tokens.begin, tokens.size(), 0),
          wire_side(wire, tokens.begin, tokens.size(), 1)};
}

void pack(const KvPair& from, const std::vector<Program::Packed>& runs,
          const at::Tensor& wire) {
  move<Direction::to_wire>(from, runs, wire, false);
}

void unpack(const at::Tensor& wire, const std::vector<Program::Packed>& runs,
            const KvPair& to) {
  move<Direction::from_wire>(to, runs, wire, false);
}

void put(const KvPair& from, const Run& keys, const at::Tensor& wire,
         std::int64_t begin, bool add) {
  move<Direction::to_wire>(from, {{begin, keys}}, wire, add);
}

}  // namespace ringweave::attention
