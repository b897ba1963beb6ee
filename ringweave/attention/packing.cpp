#include "ringweave/attention/packing.h"

#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ringweave/device/tensor_buffer.h"
#include "ringweave/tensor/for_type.h"

namespace ringweave::attention {
namespace {

using schedule::Program;
using schedule::Run;

/// Numbers that are worth a thread of their own.
constexpr std::int64_t kPackingGrain = 1 << 15;

/// To the wire layout, in place of what is there or added to it; or from it.
enum class Move { put, add, take };

/// Numbers of one head, rounded to the type of the target.
template <Move kMove, typename Source, typename Target>
void move_numbers(const Source* from, Target* to, std::int64_t count) {
  if constexpr (kMove != Move::add && std::is_same_v<Source, Target>) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(Target));
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      const auto value = static_cast<Target>(from[i]);
      to[i] = kMove == Move::add ? static_cast<Target>(to[i] + value) : value;
    }
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
template <typename Ours, typename Wire, Move kMove>
class Mover {
 public:
  Mover(const KvPair& ours, const at::Tensor& wire)
      : sides_{Strided<Ours>(ours.k), Strided<Ours>(ours.v)},
        wire_(wire.data_ptr<Wire>()),
        batch_(wire.size(2)),
        heads_(wire.size(3)),
        dim_(wire.size(4)),
        joined_(sides_[0].head == dim_ && sides_[1].head == dim_) {}

  std::int64_t unit() const { return 2 * batch_ * heads_ * dim_; }

  void token(std::int64_t local, std::int64_t unit_index) const {
    Wire* wire = wire_ + unit_index * unit();
    const std::int64_t count = joined_ ? heads_ * dim_ : dim_;
    for (const Strided<Ours>& side : sides_) {
      for (std::int64_t batch = 0; batch < batch_; ++batch) {
        Ours* ours = side.data + batch * side.batch + local * side.token;
        for (std::int64_t head = 0; head < (joined_ ? 1 : heads_); ++head) {
          Ours* numbers = ours + head * side.head;
          if constexpr (kMove == Move::take) {
            move_numbers<kMove>(wire, numbers, count);
          } else {
            move_numbers<kMove>(numbers, wire, count);
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
};

template <typename Ours, typename Wire, Move kMove>
void move_on_cpu(const KvPair& ours, const std::vector<Program::Packed>& runs,
                 const at::Tensor& wire) {
  const Mover<Ours, Wire, kMove> mover(ours, wire);
  for (const Program::Packed& run : runs) {
    at::parallel_for(0, run.local.length,
                     std::max<std::int64_t>(1, kPackingGrain / mover.unit()),
                     [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i) {
                         mover.token(run.local.at(i), run.begin + i);
                       }
                     });
  }
}

/// (batch, tokens, kv_heads, head_dim) of either K or V.
at::Tensor wire_side(const at::Tensor& wire, std::int64_t begin,
                     std::int64_t length, std::int64_t side) {
  return wire.narrow(0, begin, length).select(1, side).transpose(0, 1);
}

template <Move kMove>
void move_anywhere(const KvPair& ours, const std::vector<Program::Packed>& runs,
                   const at::Tensor& wire) {
  for (const Program::Packed& run : runs) {
    const KvPair tokens = take(ours, run.local);
    for (const auto& [x, side] : {std::pair(tokens.k, 0), {tokens.v, 1}}) {
      const at::Tensor there =
          wire_side(wire, run.begin, run.local.length, side);
      const at::Tensor& to = kMove == Move::take ? x : there;
      const at::Tensor& from = kMove == Move::take ? there : x;
      if (kMove == Move::add) {
        to.add_(from);
      } else {
        to.copy_(from);
      }
    }
  }
}

template <Move kMove>
void move(const KvPair& ours, const std::vector<Program::Packed>& runs,
          const at::Tensor& wire) {
  if (runs.empty()) return;
  if (!wire.is_cpu() || ours.k.stride(-1) != 1 || ours.v.stride(-1) != 1) {
    return move_anywhere<kMove>(ours, runs, wire);
  }
  tensor::for_type(ours.k.scalar_type(), [&](auto number) {
    using Ours = decltype(number);
    tensor::for_type(wire.scalar_type(), [&](auto sent) {
      move_on_cpu<Ours, decltype(sent), kMove>(ours, runs, wire);
    });
  });
}

}  // namespace

KvPair take(const KvPair& x, const Run& run) {
  return {x.k.slice(1, run.begin, run.end(), run.stride),
          x.v.slice(1, run.begin, run.end(), run.stride)};
}

at::Tensor wire_tensor(const device::Buffer& buffer, const KvShape& shape,
                       at::ScalarType type) {
  const auto unit_bytes =
      static_cast<std::size_t>(shape.unit()) * at::elementSize(type);
  return device::tensor_of(buffer,
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
  move<Move::put>(from, runs, wire);
}

void unpack(const at::Tensor& wire, const std::vector<Program::Packed>& runs,
            const KvPair& to) {
  move<Move::take>(to, runs, wire);
}

void put(const KvPair& from, const Run& keys, const at::Tensor& wire,
         std::int64_t begin, bool add) {
  const std::vector<Program::Packed> runs = {{begin, keys}};
  if (add) {
    move<Move::add>(from, runs, wire);
  } else {
    move<Move::put>(from, runs, wire);
  }
}

}  // namespace ringweave::attention
