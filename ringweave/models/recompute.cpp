#include "ringweave/models/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/base/error.h"

namespace ringweave::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Held : torch::CustomClassHolder {
  explicit Held(Block held) : block(std::move(held)) {}
  Block block;
};

struct Recomputed : torch::autograd::Function<Recomputed> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const c10::intrusive_ptr<Held>& held) {
    context->save_for_backward({x});
    context->saved_data["block"] = c10::IValue::make_capsule(held);
    return held->block(x);
  }

  static variable_list backward(AutogradContext* context,
                                const variable_list& gradients) {
    require(!at::GradMode::is_enabled(),
            "[model] got a backward with create_graph; want one without where "
            "activations are recomputed");
    const auto held = c10::static_intrusive_pointer_cast<Held>(
        context->saved_data["block"].toCapsule());
    const at::Tensor x =
        context->get_saved_variables()[0].detach().requires_grad_(true);
    at::Tensor out;
    {
      const at::AutoGradMode recording(true);
      out = held->block(x);
    }
    torch::autograd::backward({out}, {gradients[0]});
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recomputed(const Block& block, const at::Tensor& x) {
  if (!at::GradMode::is_enabled()) return block(x);
  return Recomputed::apply(x, c10::make_intrusive<Held>(block));
}

}  // namespace ringweave::models
