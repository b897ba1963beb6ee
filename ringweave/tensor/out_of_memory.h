// What torch throws when there is no memory left.
#pragma once

#include <exception>
#include <new>
#include <string_view>

#include <c10/util/Exception.h>

namespace ringweave::tensor {

/// On the CPU torch has no class of its own for it.
inline bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) ||
         dynamic_cast<const c10::OutOfMemoryError*>(&error) ||
         std::string_view(error.what()).find("DefaultCPUAllocator") !=
             std::string_view::npos;
}

}  // namespace ringweave::tensor
