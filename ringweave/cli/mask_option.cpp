#include "ringweave/cli/mask_option.h"

#include <filesystem>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

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

std::string mask_text(const schedule::Mask& mask) {
  std::string text = mask.is_causal() ? "causal" : "full";
  std::vector<std::string> sides;
  if (mask.window().left) {
    sides.push_back(fmt::format("{} left", *mask.window().left));
  }
  if (mask.window().right) {
    sides.push_back(fmt::format("{} right", *mask.window().right));
  }
  if (!sides.empty()) {
    text += fmt::format(", window of {}", fmt::join(sides, " and "));
  }
  if (!mask.document_offsets().empty()) {
    text += fmt::format(", {} documents", mask.document_offsets().size() - 1);
  }
  return text;
}

}  // namespace ringweave::cli
