// Ops through which Python tests drive the communicator of a process group.
#include <map>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <torch/library.h>

#include "ringweave/comm/c10d_transport.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/comm/exchange_check.h"

namespace ringweave::comm {
namespace {

Communicator join(const std::string& group, std::int64_t milliseconds) {
  const std::chrono::milliseconds time_out(milliseconds);
  return Communicator(c10d_transport(group), {time_out, time_out});
}

at::Tensor all_reduce(const at::Tensor& values, std::string group,
                      std::int64_t milliseconds) {
  at::Tensor sum = values.contiguous().clone();
  Communicator communicator = join(group, milliseconds);
  const auto size = static_cast<std::size_t>(sum.numel());
  if (sum.scalar_type() == at::kFloat) {
    communicator.all_reduce_sum(std::span(sum.mutable_data_ptr<float>(), size));
  } else {
    communicator.all_reduce_sum(
        std::span(sum.mutable_data_ptr<double>(), size));
  }
  return sum;
}

std::vector<std::string> all_gather(std::string text, std::string group,
                                    std::int64_t milliseconds) {
  return join(group, milliseconds).all_gather(text);
}

void check_agreement(std::string name, std::string text, std::string group,
                     std::int64_t milliseconds) {
  join(group, milliseconds).check_agreement({{"same", "yes"}, {name, text}});
}

void exchange(std::string strategy, std::string layout, std::int64_t tokens,
              bool causal, std::int64_t repeats, std::string group,
              std::int64_t milliseconds) {
  Communicator communicator = join(group, milliseconds);
  const auto shards =
      schedule::Layout::named(layout, tokens, communicator.size());
  const schedule::AttentionDemand demand(
      shards, shards,
      causal ? schedule::Mask::causal() : schedule::Mask::full());
  for (std::int64_t i = 0; i < repeats; ++i) {
    check_exchange(schedule::strategy_from_name(strategy), demand,
                   communicator);
  }
}

}  // namespace

TORCH_LIBRARY(ringweave_test, library) {
  library.def(
      "all_reduce(Tensor values, str group, int milliseconds) -> Tensor",
      &all_reduce);
  library.def("all_gather(str text, str group, int milliseconds) -> str[]",
              &all_gather);
  library.def(
      "check_agreement(str name, str text, str group, int milliseconds) -> ()",
      &check_agreement);
  library.def(
      "exchange(str strategy, str layout, int tokens, bool causal, "
      "int repeats, str group, int milliseconds) -> ()",
      &exchange);
}

}  // namespace ringweave::comm
