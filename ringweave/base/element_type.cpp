#include "ringweave/base/element_type.h"

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"

namespace ringweave {

const std::vector<std::string>& element_type_names() {
  // In the order of the enumerators.
  static const std::vector<std::string> names = {"float64", "float32",
                                                 "bfloat16", "float16"};
  return names;
}

const std::vector<std::string>& model_type_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all = element_type_names();
    std::erase(all, name(ElementType::float16));
    return all;
  }();
  return names;
}

std::string name(ElementType type) {
  return element_type_names()[static_cast<std::size_t>(type)];
}

ElementType element_type_from_name(const std::string& name) {
  return static_cast<ElementType>(place_of(name, element_type_names(), "type"));
}

ElementType model_type_from_name(const std::string& name) {
  place_of(name, model_type_names(), "type");
  return element_type_from_name(name);
}

std::int64_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return 8;
    case ElementType::float32:
      return 4;
    case ElementType::bfloat16:
    case ElementType::float16:
      return 2;
  }
  throw InternalError("bug in ringweave: a type without a size");
}

ElementType accumulate_type(ElementType type) {
  return type == ElementType::float64 ? ElementType::float64
                                      : ElementType::float32;
}

}  // namespace ringweave
