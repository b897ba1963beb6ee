// The torch operators that Python sees, and the entry of `python -m ringweave`.
//
//   torch.ops.ringweave.main(argv, group, store_host) -> exit code
//   torch.ops.ringweave.attention(q, k, v, …) -> out
//   torch.ops.ringweave.linear_attention(q, k, v, …) -> (out, final state)
//   torch.ops.ringweave.layout / positions / shard / unshard
//
// The group is a torch.classes.ringweave.Group; that of main is the name of a
// process group, and `store_host` the rank whose process has its store.
//
// Layouts and masks come as the JSON of schedule/layout/layout.h and
// schedule/mask/mask.h, plans as paths of plan files.
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/library.h>

#include "python/group.h"
#include "python/session.h"
#include "python/unshard.h"
#include "ringweave/base/error.h"
#include "ringweave/cli/cli.h"
#include "ringweave/comm/c10d_transport.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/text.h"

namespace ringweave::python {
namespace {

schedule::Layout layout_from(const std::string& json) {
  return schedule::Layout::from_json(parse_json(json, "layout"), "layout");
}

schedule::Mask mask_from(const std::string& json) {
  return schedule::Mask::from_json(parse_json(json, "mask"), "mask");
}

int64_t main_op(const std::vector<std::string>& argv, const std::string& group,
                std::optional<int64_t> store_host) {
  std::optional<Rank> host;
  if (store_host) host = static_cast<Rank>(*store_host);
  // An empty name: no launcher, ranks are threads.
  return cli::run(argv, comm::c10d_engine(group, host));
}

/// A file's text in the key of what was made from it: another one when the file
/// has changed.
std::string version_of(const std::string& path) {
  std::error_code absent;  // read_plan_file() says so, and better
  const auto written = std::filesystem::last_write_time(path, absent);
  return fmt::format("{} {}", path, written.time_since_epoch().count());
}

/// What a plan file is compared with, in the key of what was made from it.
std::string shape_key(const at::Tensor& q, const at::Tensor& k) {
  return fmt::format("{} {} {}", tensor::shape_text(q.sizes()),
                     tensor::shape_text(k.sizes()),
                     c10::toString(q.scalar_type()));
}

/// Of a (batch, tokens, heads, head_dim) tensor; other shapes are refused
/// later.
std::int64_t heads_of(const at::Tensor& x) {
  return x.dim() == 4 ? x.size(2) : 0;
}

/// Of the model, what can be seen in one call is compared.
void check_fits(const planner::PlanFile& plan, const std::string& path,
                const at::Tensor& q, std::int64_t kv_heads,
                const schedule::Layout& layout, const schedule::Mask& mask,
                int ranks) {
  const auto type = tensor::element_type(q.scalar_type());
  if (q.dim() != 4 || !type) return;  // refused with other shapes and types
  planner::ModelShape shape = plan.model;
  shape.heads = q.size(2);
  shape.kv_heads = kv_heads;
  shape.head_dim = q.size(3);
  shape.batch = q.size(0);
  shape.type = *type;
  planner::check_fits(plan, path, ranks, shape, layout.tokens(),
                      layout.to_json().at("kind").get<std::string>(), mask);
}

schedule::Strategy planned_strategy(const std::string& path,
                                    const at::Tensor& q, const at::Tensor& k,
                                    const schedule::Layout& layout,
                                    const schedule::Mask& mask, int ranks) {
  const planner::PlanFile file = planner::read_plan_file(path);
  require(file.softmax.has_value(),
          "[attention] got {}, a plan without softmax layers; want one with",
          path);
  check_fits(file, path, q, heads_of(k), layout, mask, ranks);
  return *file.softmax->strategy;
}

using GroupPtr = c10::intrusive_ptr<Group>;

at::Tensor attention_op(const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v, const GroupPtr& group,
                        const std::string& layout, const std::string& mask,
                        std::optional<double> scale,
                        const std::string& strategy,
                        const std::optional<std::string>& plan_file) {
  const bool backward =
      at::GradMode::is_enabled() &&
      (q.requires_grad() || k.requires_grad() || v.requires_grad());
  comm::Communicator& communicator = group->communicator();
  const auto make = [&]() -> PlanCache<attention::AttentionPlan>::Made {
    const schedule::Layout tokens = layout_from(layout);
    const schedule::Mask seen = mask_from(mask);
    const schedule::Strategy chosen =
        plan_file ? planned_strategy(*plan_file, q, k, tokens, seen,
                                     communicator.size())
                  : schedule::strategy_from_name(strategy);
    return {attention::make_attention_plan({.strategy = chosen,
                                            .q_layout = tokens,
                                            .kv_layout = tokens,
                                            .mask = seen,
                                            .backward = backward},
                                           communicator.rank()),
            !seen.document_offsets().empty()};
  };
  const auto plan = group->communicator().or_refuse("attention", [&] {
    return group->state()->attention_plans.get(
        fmt::format(
            "{}\n{}\n{}\n{}", layout, mask, backward,
            plan_file ? version_of(*plan_file) + shape_key(q, k) : strategy),
        make);
  });
  return attention::attention(q, k, v, plan, communicator,
                              {.scale = scale, .owner = group->state()})
      .out;
}

linear_attention::Decay decay_of(const std::optional<at::Tensor>& gates) {
  using linear_attention::Decay;
  if (!gates) return Decay::none;
  switch (gates->dim()) {
    case 1:
      return Decay::constant;
    case 3:
      return Decay::per_head;
    case 4:
      return Decay::per_key;
    default:
      throw InvalidArgument(fmt::format(
          "[linear_attention] got gates of {} dimensions; want (heads), "
          "(batch, tokens, heads) or (batch, tokens, heads, key_dim)",
          gates->dim()));
  }
}

std::tuple<at::Tensor, std::optional<at::Tensor>> linear_attention_op(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& gates,
    const std::optional<at::Tensor>& initial_state, const GroupPtr& group,
    const std::string& layout, const std::string& mask, double scale,
    const std::string& exchange, bool final_state,
    const std::optional<std::string>& plan_file) {
  comm::Communicator& communicator = group->communicator();
  const auto make = [&]() -> PlanCache<linear_attention::LinearPlan>::Made {
    const schedule::Layout tokens = layout_from(layout);
    const schedule::Mask seen = mask_from(mask);
    std::string way = exchange;
    if (plan_file) {
      const planner::PlanFile file = planner::read_plan_file(*plan_file);
      require(file.linear.has_value(),
              "[linear_attention] got {}, a plan without linear layers; want "
              "one with",
              *plan_file);
      check_fits(file, *plan_file, q, heads_of(k), tokens, seen,
                 communicator.size());
      way = file.linear->name;
    }
    return {linear_attention::make_linear_plan(
                {.exchange = schedule::state_exchange_from_name(way),
                 .layout = tokens,
                 .mask = seen},
                communicator.rank()),
            !seen.document_offsets().empty()};
  };
  const auto [plan, decay] =
      group->communicator().or_refuse("linear_attention", [&] {
        return std::pair(
            group->state()->linear_plans.get(
                fmt::format("{}\n{}\n{}", layout, mask,
                            plan_file ? version_of(*plan_file) + shape_key(q, k)
                                      : exchange),
                make),
            decay_of(gates));
      });
  const linear_attention::LinearResult result =
      linear_attention::linear_attention(
          q, k, v, decay, gates.value_or(at::Tensor()),
          initial_state.value_or(at::Tensor()), plan, communicator,
          {.scale = scale,
           .final_state = final_state,
           .owner = group->state()});
  if (!final_state) return {result.out, std::nullopt};
  return {result.out, result.final_state};
}

std::string layout_op(const std::string& kind, int64_t tokens, int64_t ranks) {
  const Json json = {{"kind", kind}, {"tokens", tokens}, {"ranks", ranks}};
  return schedule::Layout::from_json(json, "layout").to_json().dump();
}

at::Tensor positions_op(const std::string& layout, int64_t rank) {
  const schedule::Layout tokens = layout_from(layout);
  require(rank >= 0 && rank < tokens.ranks(),
          "[positions] got rank {}; want 0 … {}", rank, tokens.ranks() - 1);
  return positions(tokens, static_cast<Rank>(rank));
}

/// Carries the gradient that index_select has.
at::Tensor shard_op(const at::Tensor& whole, const std::string& layout,
                    int64_t rank, int64_t dim) {
  const at::Tensor mine = positions_op(layout, rank);
  const std::int64_t tokens = layout_from(layout).tokens();
  require(dim >= -whole.dim() && dim < whole.dim() && whole.size(dim) == tokens,
          "[shard] got a tensor of shape {} with tokens in dim {}; want {} of "
          "them, the layout's",
          tensor::shape_text(whole.sizes()), dim, tokens);
  return whole.index_select(dim, mine.to(whole.device()));
}

at::Tensor unshard_op(const at::Tensor& part, const GroupPtr& group,
                      const std::string& layout, int64_t dim) {
  const schedule::Layout tokens = group->communicator().or_refuse(
      "unshard", [&] { return layout_from(layout); });
  return unshard(part, tokens, dim, group->state());
}

}  // namespace

TORCH_LIBRARY(ringweave, library) {
  library.class_<Group>("Group")
      .def(torch::init<c10::intrusive_ptr<c10d::ProcessGroup>,
                       const std::string&, int64_t, const std::string&>())
      .def("calls", [](const GroupPtr& self) { return self->calls(); })
      .def("refuse",
           [](const GroupPtr& self, const std::string& operation,
              const std::string& reason) { self->refuse(operation, reason); })
      .def("set_agreement",
           [](const GroupPtr& self, const std::string& mode) {
             self->set_agreement(mode);
           })
      .def("close", [](const GroupPtr& self) { self->close(); });

  library.class_<Session>("Session")
      .def(torch::init<const std::string&,
                       std::optional<c10::intrusive_ptr<Group>>,
                       const std::string&>())
      .def("prefill", &Session::prefill)
      .def("decode", &Session::decode)
      .def("tokens", &Session::tokens)
      .def("end_tokens", &Session::end_tokens)
      .def("save", &Session::save)
      .def("load", &Session::load);

  library.def("main(str[] argv, str group, int? store_host=None) -> int",
              main_op);
  library.def(
      "attention(Tensor q, Tensor k, Tensor v, "
      "__torch__.torch.classes.ringweave.Group group, str layout, "
      "str mask, float? scale, str strategy, str? plan) -> Tensor",
      attention_op);
  library.def(
      "linear_attention(Tensor q, Tensor k, Tensor v, Tensor? gates, "
      "Tensor? initial_state, __torch__.torch.classes.ringweave.Group group, "
      "str layout, str mask, float scale, "
      "str exchange, bool final_state, str? plan) -> (Tensor, Tensor?)",
      linear_attention_op);
  library.def("layout(str kind, int tokens, int ranks) -> str", layout_op);
  library.def("positions(str layout, int rank) -> Tensor", positions_op);
  library.def("shard(Tensor whole, str layout, int rank, int dim) -> Tensor",
              shard_op);
  library.def(
      "unshard(Tensor part, __torch__.torch.classes.ringweave.Group group, "
      "str layout, int dim) -> Tensor",
      unshard_op);
}

}  // namespace ringweave::python
