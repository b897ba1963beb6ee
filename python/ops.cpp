// What Python sees of the library: the entry of `python -m ringweave`, the
// classes, and the operators of layouts. The operators on tensors are in
// attention_op.cpp, linear_attention_op.cpp, convolution_op.cpp and
// unshard_op.cpp.
//
//   torch.ops.ringweave.main(argv, group, store_host) -> exit code
//   torch.ops.ringweave.layout(json) -> json
//   torch.classes.ringweave.Group, Session
//
// The group of main is the name of a process group, and `store_host` the rank
// whose process has its store.
#include <optional>
#include <string>
#include <vector>

#include <torch/library.h>

#include "python/group.h"
#include "python/session.h"
#include "ringweave/base/json.h"
#include "ringweave/cli/cli.h"
#include "ringweave/comm/c10d_transport.h"
#include "ringweave/schedule/layout/layout.h"

namespace ringweave::python {
namespace {

int64_t main_op(const std::vector<std::string>& argv, const std::string& group,
                std::optional<int64_t> store_host) {
  std::optional<Rank> host;
  if (store_host) host = static_cast<Rank>(*store_host);
  // An empty name: no launcher, ranks are threads.
  return cli::run(argv, comm::c10d_engine(group, host));
}

/// A layout that was read, in full.
std::string layout_op(const std::string& json) {
  return schedule::Layout::from_json(parse_json(json, "layout"), "layout")
      .to_json()
      .dump();
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
      .def("agree",
           [](const GroupPtr& self, const std::string& operation,
              const c10::Dict<std::string, std::string>& facts) {
             self->agree(operation, facts);
           })
      .def("set_agreement",
           [](const GroupPtr& self, const std::string& mode) {
             self->set_agreement(mode);
           })
      .def("serve", [](const GroupPtr& self,
                       const std::string& name) { serve(name, self); })
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
  library.def("layout(str json) -> str", layout_op);
  // The package implements it: makes and serves the group.
  library.def("open_group(str name) -> ()");
}

}  // namespace ringweave::python
