#include "python/unshard.h"

#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/tensor_buffer.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"

namespace ringweave::python {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Call : torch::CustomClassHolder {
  schedule::Layout layout;
  std::int64_t dim;
  std::shared_ptr<GroupState> state;
  std::int64_t number = 0;  ///< of the forward, among the group's calls
  bool requires_gradient = false;

  Call(schedule::Layout layout, std::int64_t dim,
       std::shared_ptr<GroupState> state)
      : layout(std::move(layout)), dim(dim), state(std::move(state)) {}

  comm::Communicator& communicator() const { return state->communicator; }
  Rank rank() const { return communicator().rank(); }
  int ranks() const { return communicator().size(); }
};

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
      incoming.push_back({peer, comm::buffer_of(receives[peer])});
    }
    if (sends[peer].nbytes() > 0) {
      outgoing.push_back({peer, comm::buffer_of(sends[peer])});
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
           call.communicator());
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
  exchange(sends, parts, "unshard backward", call.communicator());
  at::Tensor sum = parts[0].to(tensor::accumulate_type(mine.scalar_type()),
                               /*non_blocking=*/false, /*copy=*/true);
  for (Rank rank = 1; rank < call.ranks(); ++rank) sum.add_(parts[rank]);
  return sum.to(mine.scalar_type()).movedim(0, call.dim);
}

void check(const at::Tensor& part, const Call& call) {
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
  require(!call.requires_gradient ||
              tensor::element_type(part.scalar_type()).has_value(),
          "[unshard] got type {} with a gradient; want float64, float32 or "
          "bfloat16, or no gradient",
          at::toString(part.scalar_type()));
}

comm::Facts facts_of(const at::Tensor& part, const Call& call) {
  std::vector<std::int64_t> others = part.sizes().vec();
  others[call.dim] = call.layout.tokens();
  return {{"layout", comm::abridged(call.layout.to_json().dump())},
          {"shape of the whole", tensor::shape_text(others)},
          {"dim", fmt::format("{}", call.dim)},
          {"type", at::toString(part.scalar_type())},
          {"requires a gradient", call.requires_gradient ? "yes" : "no"}};
}

struct Unshard : public torch::autograd::Function<Unshard> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& part,
                            const c10::intrusive_ptr<Call>& call) {
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return call->communicator().call(
        "unshard", 0, [&] { check(part, *call); },
        [&] { return facts_of(part, *call); },
        [&](std::int64_t number) {
          call->number = number;
          return gather(part, *call);
        });
  }

  static variable_list backward(AutogradContext* context,
                                variable_list gradients) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(
        context->saved_data["call"].toCapsule());
    const auto check = [&] {
      require(!at::GradMode::is_enabled(),
              "[unshard] got a backward with create_graph; want one without: "
              "second derivatives are not supported");
    };
    return call->communicator().call(
        "unshard backward", call->number, check, [] { return comm::Facts(); },
        [&](std::int64_t) {
          return variable_list{reduce(gradients[0], *call), at::Tensor()};
        });
  }
};

}  // namespace

at::Tensor positions(const schedule::Layout& layout, Rank rank) {
  return at::tensor(layout.positions(rank), at::kLong);
}

at::Tensor unshard(const at::Tensor& part, const schedule::Layout& layout,
                   std::int64_t dim, const std::shared_ptr<GroupState>& state) {
  const auto call = c10::make_intrusive<Call>(
      layout, dim < 0 ? dim + part.dim() : dim, state);
  call->requires_gradient = at::GradMode::is_enabled() && part.requires_grad();
  return Unshard::apply(part, call);
}

}  // namespace ringweave::python
