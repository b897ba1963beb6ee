// Gathers shards into the whole, as a pair of functional operators, and their
// gradient.
//
//   unshard_forward(part, …) -> (whole, call)
//   unshard_backward(grad, call, …, own) -> grad_part
//
// The whole tensor, on every rank, from the ranks' shards, whose tokens are in
// dimension `dim`, from 0. Any type, any other dimensions, which all ranks have
// equal. The gradient of a shard is that of its tokens, summed over the ranks
// in rank order, in fp32 at least.
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "python/arguments.h"
#include "python/group.h"
#include "python/operators.h"
#include "ringweave/base/error.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/tensor/saved.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"

namespace ringweave::python::unshard_op {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Forward = std::tuple<at::Tensor, at::Tensor>;

/// What a call has besides tensors: group, layout, tokens, ranks, dim.
using Constants = std::tuple<std::string, std::string, c10::SymInt,
                             std::int64_t, std::int64_t>;

using ForwardOp = Forward(const at::Tensor& part, const std::string& group,
                          const std::string& layout, c10::SymInt tokens,
                          std::int64_t ranks, std::int64_t dim, bool backward);
using BackwardOp = at::Tensor(const at::Tensor& grad, const at::Tensor& call,
                              const std::string& group,
                              const std::string& layout, c10::SymInt tokens,
                              std::int64_t ranks, std::int64_t dim,
                              c10::SymInt own);

struct Call {
  schedule::Layout layout;
  std::int64_t dim;
  comm::Communicator& communicator;

  Rank rank() const { return communicator.rank(); }
  int ranks() const { return communicator.size(); }
};

/// The positions of a rank's tokens.
at::Tensor positions(const schedule::Layout& layout, Rank rank) {
  return at::tensor(layout.positions(rank), at::kLong);
}

/// Sends to every other rank its tensor, and receives one of each; tensors are
/// contiguous and by rank.
void exchange(const std::vector<at::Tensor>& sends,
              const std::vector<at::Tensor>& receives, const char* operation,
              comm::Communicator& communicator) {
  std::vector<comm::Receive> incoming;
  std::vector<comm::Send> outgoing;
  for (Rank peer = 0; peer < communicator.size(); ++peer) {
    if (peer == communicator.rank()) continue;
    if (receives[peer].nbytes() > 0) {
      incoming.push_back({peer, device::buffer_of(receives[peer])});
    }
    if (sends[peer].nbytes() > 0) {
      outgoing.push_back({peer, device::buffer_of(sends[peer])});
    }
  }
  for (const auto& work : communicator.post({incoming, outgoing})) {
    communicator.wait(*work, operation);
  }
}

/// `like` with another number of tokens, which come first.
at::Tensor empty_tokens(const at::Tensor& like, std::int64_t tokens) {
  std::vector<std::int64_t> shape = like.sizes().vec();
  shape[0] = tokens;
  return at::empty(shape, like.options());
}

at::Tensor gather(const at::Tensor& part, const Call& call) {
  const at::Tensor mine = part.movedim(call.dim, 0).contiguous();
  std::vector<at::Tensor> shards;
  for (Rank rank = 0; rank < call.ranks(); ++rank) {
    shards.push_back(rank == call.rank()
                         ? mine
                         : empty_tokens(mine, call.layout.shard_tokens(rank)));
  }
  exchange(std::vector(call.ranks(), mine), shards, "unshard forward",
           call.communicator);
  const at::Tensor whole = empty_tokens(mine, call.layout.tokens());
  for (Rank rank = 0; rank < call.ranks(); ++rank) {
    whole.index_copy_(0, positions(call.layout, rank), shards[rank]);
  }
  return whole.movedim(0, call.dim).contiguous();
}

/// This rank's tokens of the sum over ranks.
at::Tensor reduce(const at::Tensor& whole, const Call& call) {
  const at::Tensor tokens_first = whole.movedim(call.dim, 0);
  std::vector<at::Tensor> sends, parts;
  for (Rank rank = 0; rank < call.ranks(); ++rank) {
    sends.push_back(tokens_first.index_select(0, positions(call.layout, rank))
                        .contiguous());
  }
  const at::Tensor& mine = sends[call.rank()];
  for (Rank rank = 0; rank < call.ranks(); ++rank) {
    parts.push_back(rank == call.rank() ? mine : at::empty_like(mine));
  }
  exchange(sends, parts, "unshard backward", call.communicator);
  at::Tensor sum = parts[0].to(tensor::accumulate_type(mine.scalar_type()),
                               /*non_blocking=*/false, /*copy=*/true);
  for (Rank rank = 1; rank < call.ranks(); ++rank) sum.add_(parts[rank]);
  return sum.to(mine.scalar_type()).movedim(0, call.dim).contiguous();
}

void check(const at::Tensor& part, const Call& call, bool backward) {
  require(call.layout.ranks() == call.ranks(),
          "[unshard] got a layout of {} ranks; want {}, the group's",
          call.layout.ranks(), call.ranks());
  require(call.dim >= 0 && call.dim < part.dim(),
          "[unshard] got dim {} of a tensor of shape {}; want 0 … {}", call.dim,
          tensor::shape_text(part.sizes()), part.dim() - 1);
  require(part.size(call.dim) == call.layout.shard_tokens(call.rank()),
          "[unshard] got {} tokens on rank {}; want {}", part.size(call.dim),
          call.rank(), call.layout.shard_tokens(call.rank()));
  require(part.device().is_cpu(), "[unshard] got a tensor on {}; want cpu",
          part.device().str());
  require(part.layout() == at::kStrided,
          "[unshard] got a sparse tensor; want a dense one");
  require(!backward || tensor::element_type(part.scalar_type()).has_value(),
          "[unshard] got type {} with a gradient; want float64, float32, "
          "bfloat16 or float16, or no gradient",
          at::toString(part.scalar_type()));
}

comm::Facts facts_of(const at::Tensor& part, const Call& call, bool backward) {
  std::vector<std::int64_t> others = part.sizes().vec();
  others[call.dim] = call.layout.tokens();
  return {{"layout", comm::abridged(call.layout.to_json().dump())},
          {"shape of the whole", tensor::shape_text(others)},
          {"dim", fmt::format("{}", call.dim)},
          {"type", at::toString(part.scalar_type())},
          {"requires a gradient", backward ? "yes" : "no"}};
}

Key key_of(const Placement& placement, std::int64_t dim) {
  return Key().add(placement).add(dim);
}

Forward forward_kernel(const at::Tensor& part, const std::string& group,
                       const std::string& layout, std::int64_t tokens,
                       std::int64_t ranks, std::int64_t dim, bool backward) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  const Placement placement = {layout, tokens, ranks};
  const Call call = {
      communicator.or_refuse("unshard", [&] { return layout_of(placement); }),
      dim, communicator};
  std::int64_t number = 0;
  const at::Tensor whole = communicator.call(
      "unshard", 0, [&] { check(part, call, backward); },
      [&] { return facts_of(part, call, backward); },
      [&](std::int64_t its_number) {
        number = its_number;
        return gather(part, call);
      });
  return {whole, call_record(communicator, number, key_of(placement, dim))};
}

at::Tensor backward_kernel(const at::Tensor& grad, const at::Tensor& call,
                           const std::string& group, const std::string& layout,
                           std::int64_t tokens, std::int64_t ranks,
                           std::int64_t dim, std::int64_t) {
  const GroupPtr own = group_of(group);
  comm::Communicator& communicator = own->communicator();
  const Placement placement = {layout, tokens, ranks};
  constexpr const char* kOperation = "unshard backward";
  const std::int64_t number = communicator.or_refuse(kOperation, [&] {
    return call_number(call, key_of(placement, dim), kOperation);
  });
  return communicator.call(
      kOperation, number, [] {}, [] { return comm::Facts(); },
      [&](std::int64_t) {
        return reduce(grad, {layout_of(placement), dim, communicator});
      });
}

/// `x` with another number of tokens.
at::Tensor shape_of(const at::Tensor& x, std::int64_t dim, c10::SymInt tokens) {
  std::vector<c10::SymInt> shape = x.sym_sizes().vec();
  if (dim >= 0 && dim < x.dim()) shape[dim] = std::move(tokens);  // or refused
  return at::empty_symint(shape, x.options());
}

Forward forward_shapes(const at::Tensor& part, const std::string&,
                       const std::string&, c10::SymInt tokens, std::int64_t,
                       std::int64_t dim, bool) {
  return {shape_of(part, dim, tokens),
          at::empty({2}, part.options().dtype(at::kLong))};
}

at::Tensor backward_shapes(const at::Tensor& grad, const at::Tensor&,
                           const std::string&, const std::string&, c10::SymInt,
                           std::int64_t, std::int64_t dim, c10::SymInt own) {
  return shape_of(grad, dim, own);
}

Forward call_forward(const at::Tensor& part, const Constants& constants,
                     bool backward) {
  static const auto op = operator_of<ForwardOp>("ringweave::unshard_forward");
  const at::AutoDispatchBelowADInplaceOrView below;
  return std::apply(
      [&](const auto&... each) { return op.call(part, each..., backward); },
      constants);
}

struct Unshard : public torch::autograd::Function<Unshard> {
  static variable_list forward(AutogradContext* context, const at::Tensor& part,
                               const Constants& constants) {
    const auto [whole, call] = call_forward(part, constants, /*backward=*/true);
    context->save_for_backward({call});
    context->saved_data["constants"] = constants;
    context->saved_data["own"] = part.sym_size(std::get<4>(constants));
    context->mark_non_differentiable({call});
    context->set_materialize_grads(false);
    return {whole, call};
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto constants = context->saved_data["constants"].to<Constants>();
    const variable_list saved = or_refuse(
        std::get<0>(constants), "unshard backward",
        [&] { return tensor::saved_for_backward(*context, "unshard"); });
    static const auto op =
        operator_of<BackwardOp>("ringweave::unshard_backward");
    const at::AutoDispatchBelowADInplaceOrView below;
    return {std::apply(
                [&](const auto&... each) {
                  return op.call(gradients[0], saved[0], each...,
                                 context->saved_data["own"].toSymInt());
                },
                constants),
            at::Tensor()};
  }
};

/// A compiled graph says itself whether there is a backward.
Forward forward_with_gradient(const at::Tensor& part, const std::string& group,
                              const std::string& layout, c10::SymInt tokens,
                              std::int64_t ranks, std::int64_t dim,
                              bool backward) {
  const Constants constants = {group, layout, tokens, ranks, dim};
  if (!at::GradMode::is_enabled() || !part.requires_grad() || dim < 0 ||
      dim >= part.dim()) {
    return call_forward(part, constants, backward);
  }
  const variable_list results = Unshard::apply(part, constants);
  return {results[0], results[1]};
}

#define RINGWEAVE_UNSHARD_CONSTANTS \
  "str group, str layout, SymInt tokens, int ranks, int dim"

TORCH_LIBRARY_FRAGMENT(ringweave, library) {
  library.def("unshard_forward(Tensor part, " RINGWEAVE_UNSHARD_CONSTANTS
              ", bool backward=False) -> (Tensor whole, Tensor call)");
  library.def(
      "unshard_backward(Tensor grad, Tensor call, " RINGWEAVE_UNSHARD_CONSTANTS
      ", SymInt own) -> Tensor");
}

RINGWEAVE_IMPLEMENT("unshard")

}  // namespace
}  // namespace ringweave::python::unshard_op
