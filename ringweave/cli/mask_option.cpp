#include "ringweave/cli/mask_option.h"

#include <filesystem>

#include <fmt/format.h>

#include "ringweave/base/error.h"

namespace ringweave::cli {

schedule::Mask mask_from_option(const std::string& text,
                                const std::string& where) {
  if (text == "causal") return schedule::Mask::causal();
  if (text == "full") return schedule::Mask::full();
  if (text.starts_with("{")) {
    return schedule::Mask::from_json(parse_json(text, "--mask"), "--mask");
  }
  std::error_code none;
  require(std::filesystem::is_regular_file(text, none),
          "{} got --mask {}; want causal, full, a file, or an object such as "
          "{{\"kind\": \"causal\", \"window\": {{\"left\": 4095}}}}",
          where, text);
  return schedule::Mask::from_json(read_json_file(text), text);
}

}  // namespace ringweave::cli
