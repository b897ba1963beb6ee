// Operations of libtorch called by name through the dispatcher, so that one
// source serves several versions of torch, whose signatures differ.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

namespace ringweave::attention {

using Arguments = std::map<std::string, c10::IValue>;

/// Whether this torch has a kernel of `operation` ("aten::…", without overload)
/// for tensors of the device.
bool has_operation(const std::string& operation, at::Device device);

/// Calls it. Arguments that are not given take the schema's defaults; those
/// that this torch's schema doesn't have are refused by an InternalError.
/// Returns its tensors.
std::vector<at::Tensor> call_operation(const std::string& operation,
                                       Arguments arguments);

}  // namespace ringweave::attention
