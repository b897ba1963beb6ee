// The argument of --mask, and a mask in words.
#pragma once

#include <string>

#include "ringweave/schedule/mask/mask.h"

namespace ringweave::cli {

/// What --mask takes, for --help.
inline constexpr const char* kMaskHelp =
    "causal, full, or a JSON object or a file of one with window or documents";

/// "causal", "full", the text of an object that Mask::from_json takes, or the
/// path of a file of one. `where` stands in errors, such as "[plan]". Throws
/// InvalidArgument if it is none of these.
schedule::Mask mask_from_option(const std::string& text,
                                const std::string& where);

}  // namespace ringweave::cli
