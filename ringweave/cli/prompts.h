// The prompts of `generate`, from its options.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "ringweave/generate/generation.h"

namespace ringweave::cli {

struct PromptFlags {
  std::vector<std::string> texts;
  std::vector<std::string> files;
  std::vector<std::string> ids;
  std::string batch;
  std::vector<std::string> stops;
  std::vector<std::string> stop_ids;
};

void add_prompt_options(CLI::App& command, PromptFlags& flags);

/// `bytes`: the model's tokens are the bytes of texts. Throws InvalidArgument
/// unless there are prompts of one kind, and for texts where they can't be
/// read.
std::vector<generate::Request> read_prompts(const PromptFlags& flags,
                                            bool bytes);
std::vector<generate::Tokens> read_stops(const PromptFlags& flags, bool bytes);

/// The bytes of tokens that are bytes, without others.
std::string text_of(const generate::Tokens& tokens);

}  // namespace ringweave::cli
