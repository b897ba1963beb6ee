#include "ringweave/generate/session.h"

#include <map>
#include <mutex>
#include <tuple>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/generate/test_session.h"
#include "ringweave/tensor/allocated.h"

namespace ringweave::generate {
namespace {

using namespace test;
using Tokens = std::vector<std::int64_t>;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// What one sequence is made of, in turns: tokens that are prefilled, then
/// tokens that are decoded.
struct Turn {
  std::int64_t prompt;
  std::int64_t replied;
};
using Plan = std::vector<Turn>;

/// Logits by sequence and by tokens before them, of all ranks.
using Seen = std::map<std::pair<std::size_t, std::int64_t>, at::Tensor>;

/// Runs the plans on ranks; token t of sequence s is tokens[s][t].
Seen run(const models::Model& model, const std::vector<Plan>& plans,
         const std::vector<Tokens>& tokens, int ranks,
         const SessionOptions& options) {
  Seen seen;
  std::mutex mutex;
  on_ranks(ranks, [&](comm::Communicator& communicator) {
    Session session(model, options, communicator);
    const auto note = [&](const Logits& logits) {
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < logits.sequences.size(); ++i) {
        const std::size_t s = logits.sequences[i];
        ASSERT_EQ(session.owner(s), communicator.rank());
        seen[{s, session.tokens(s)}] =
            logits.values[static_cast<std::int64_t>(i)];
      }
    };
    std::size_t turns = 0;
    for (const Plan& plan : plans) turns = std::max(turns, plan.size());
    for (std::size_t turn = 0; turn < turns; ++turn) {
      std::int64_t most = 0;
      for (std::size_t s = 0; s < plans.size(); ++s) {
        if (turn >= plans[s].size()) continue;
        const auto at = static_cast<std::size_t>(session.tokens(s));
        note(session.prefill(
            s, std::span(tokens[s]).subspan(
                   at, static_cast<std::size_t>(plans[s][turn].prompt))));
        most = std::max(most, plans[s][turn].replied);
      }
      for (std::int64_t i = 0; i < most; ++i) {
        std::vector<std::size_t> active;
        Tokens next;
        for (std::size_t s = 0; s < plans.size(); ++s) {
          if (turn >= plans[s].size() || i >= plans[s][turn].replied) continue;
          active.push_back(s);
          next.push_back(
              tokens[s][static_cast<std::size_t>(session.tokens(s))]);
        }
        note(session.decode(active, next));
      }
    }
  });
  return seen;
}

void expect_whole(const config::ModelConfig& config,
                  const std::vector<Plan>& plans,
                  const std::vector<int>& rank_counts,
                  const std::vector<SessionOptions>& options) {
  const models::Model model = make_model(config);
  std::vector<Tokens> tokens;
  std::vector<at::Tensor> whole;
  std::size_t steps = 0;
  for (std::size_t s = 0; s < plans.size(); ++s) {
    std::int64_t count = 0;
    for (const Turn& turn : plans[s]) {
      count += turn.prompt + turn.replied;
      steps += 1 + static_cast<std::size_t>(turn.replied);
    }
    tokens.push_back(some_tokens(count, s + 1));
    whole.push_back(whole_pass(model, tokens.back()));
  }
  for (const int ranks : rank_counts) {
    for (const SessionOptions& option : options) {
      SCOPED_TRACE(testing::Message()
                   << ranks << " ranks, chunk " << option.chunk << ", "
                   << option.layout << ", " << config.pattern << " "
                   << config.linear.kind());
      const Seen seen = run(model, plans, tokens, ranks, option);
      EXPECT_EQ(seen.size(), steps);
      for (const auto& [where, logits] : seen) {
        const at::Tensor want = whole[where.first][where.second - 1];
        const double error = (logits - want).abs().max().item<double>() /
                             std::max(1.0, want.abs().max().item<double>());
        EXPECT_LE(error, 1e-10)
            << "sequence " << where.first << ", " << where.second << " tokens";
      }
    }
  }
}

std::vector<SessionOptions> all_chunks(std::size_t sequences) {
  return {options_of(sequences, 0), options_of(sequences, 1),
          options_of(sequences, 7, "contiguous", "direct", "chain")};
}

const std::vector<int> kRanks = {1, 2, 3, 5};

TEST(Session, EveryFamilyIsAWholePass) {
  for (const std::string& kind : config::linear_family_names()) {
    for (const char* pattern : {"L", "LN"}) {
      expect_whole(tiny(kind, pattern), {{{13, 5}}}, kRanks, all_chunks(1));
    }
  }
}

TEST(Session, ShortConvolutionsAreAWholePass) {
  for (const std::string& kind : config::linear_family_names()) {
    config::ModelConfig config = tiny(kind, "LN");
    config.linear.set("convolution", 4);
    expect_whole(config, {{{13, 5}}}, {1, 3}, all_chunks(1));
  }
  // Prompts shorter than what a convolution sees, of several sequences.
  config::ModelConfig config = tiny("gla", "L");
  config.linear.set("convolution", 4);
  expect_whole(config, {{{2, 3}, {1, 1}}, {{1, 2}}, {{5, 4}}}, {1, 2, 5},
               all_chunks(3));
}

TEST(Session, SoftmaxIsAWholePass) {
  expect_whole(tiny("basic", "N"), {{{13, 5}}}, kRanks, all_chunks(1));
  expect_whole(tiny("basic", "N"), {{{13, 5}}}, {3},
               {options_of(1, 4, "striped", "ring")});
}

TEST(Session, WindowsAreAWholePass) {
  config::ModelConfig config = tiny("gla", "NLN");
  config.layers = 5;
  config.sliding_windows = {4, 0, 2};
  expect_whole(config, {{{13, 9}, {6, 3}}}, kRanks, all_chunks(1));
  config.pattern = "N";
  config.sliding_windows = {1};
  expect_whole(config, {{{5, 4}}}, {1, 3}, all_chunks(1));
}

TEST(Session, ContinuedPromptsAreAWholePass) {
  expect_whole(tiny("lightning", "LN"), {{{6, 4}, {9, 3}, {1, 2}, {2, 0}}},
               kRanks, all_chunks(1));
}

// Lengths differ, some are shorter than the ranks, and some end earlier.
TEST(Session, BatchesAreWholePasses) {
  const std::vector<Plan> plans = {
      {{6, 4}, {3, 2}}, {{1, 6}}, {{13, 2}, {1, 5}}, {{2, 0}}};
  expect_whole(tiny("gla", "LN"), plans, kRanks, all_chunks(4));
  expect_whole(tiny("basic", "N"), plans, {2, 5}, {options_of(4, 7)});
}

TEST(Session, IdentityFeaturesAndScaledRopeAreAWholePass) {
  config::ModelConfig config = tiny("basic", "LN");
  config.linear.set("feature_map", "identity");
  config.rope_theta = 50;
  config.rope_scaling =
      config::RopeScaling{.factor = 4,
                          .low_freq_factor = 1,
                          .high_freq_factor = 3,
                          .original_max_position_embeddings = 40};
  config.tie_embeddings = true;
  expect_whole(config, {{{7, 3}, {4, 2}}}, {1, 3}, all_chunks(1));
}

/// The largest difference of logits.
double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b).abs().max().item<double>();
}

TEST(Session, LowerPrecisionIsAsNearAsAWholePass) {
  const config::ModelConfig config = tiny("gla", "LN");
  const Tokens tokens = some_tokens(20, 1);
  const at::Tensor want = whole_pass(make_model(config), tokens);
  for (const ElementType type : {ElementType::float32, ElementType::bfloat16}) {
    const models::Model model = make_model(config, type);
    const double whole = difference(whole_pass(model, tokens), want);
    const Seen seen = run(model, {{{13, 6}}}, {tokens}, 3, options_of(1, 5));
    for (const auto& [where, logits] : seen) {
      EXPECT_LE(difference(logits, want[where.second - 1]), 2 * whole)
          << name(type);
    }
  }
}

// New keys go where fewest are: no rank has two more than another.
TEST(Session, KeysStayEven) {
  const models::Model model = make_model(tiny("basic", "N"));
  on_ranks(3, [&](comm::Communicator& communicator) {
    Session session(model, options_of(1, 0), communicator);
    session.prefill(0, some_tokens(2, 1));
    for (int i = 0; i < 8; ++i) session.decode({0}, {1});
    EXPECT_THAT(session.cache().kept[0], ::testing::Each(::testing::Ge(3)));
    EXPECT_EQ(session.cache().layers[0].kv[0].tokens(),
              session.cache().kept[0][communicator.rank()]);
  });
}

TEST(Session, ReservedMemoryDoesNotGrow) {
  config::ModelConfig config = tiny("basic", "NL");
  config.layers = 4;
  const models::Model model = make_model(config);
  for (const int ranks : {1, 2, 4}) {
    on_ranks(ranks, [&](comm::Communicator& communicator) {
      Session session(model, options_of(1, 8), communicator);
      session.reserve(0, 40);
      const std::int64_t bytes = session.kv_bytes();
      // Of 2 softmax layers: K and V of 40 / ranks tokens, 2 heads of 6.
      EXPECT_EQ(bytes, 2 * 2 * (40 / ranks) * 2 * 6 * 8);
      session.prefill(0, some_tokens(32, 1));
      for (int i = 0; i < 8; ++i) session.decode({0}, {1});
      EXPECT_EQ(session.kv_bytes(), bytes);
      // Of 2 linear layers, on the owner: 2 heads of 6 x 7.
      EXPECT_EQ(session.state_bytes(),
                communicator.rank() == 0 ? 2 * 2 * 6 * 7 * 8 : 0);
    });
  }
}

// Activations are those of a rank's part of a chunk; docs/generate.md has the
// formula.
TEST(Session, PrefillTakesWhatTheDocsSay) {
  config::ModelConfig config = tiny("basic", "LN");
  config.hidden = 24;
  config.intermediate = 480;
  const models::Model model = make_model(config);
  for (const int ranks : {1, 2, 4}) {
    for (const std::int64_t chunk : {0, 512}) {
      on_ranks(ranks, [&](comm::Communicator& communicator) {
        tensor::Allocated allocated;
        Session session(model, options_of(1, chunk), communicator);
        session.reserve(0, 2048);
        session.prefill(0, Tokens{1});  // plans, and the states of layers
        const std::int64_t before = allocated.now();
        allocated.reset_peak();
        session.prefill(0, some_tokens(2047, 1));
        const std::int64_t tokens = (chunk == 0 ? 2048 : chunk) / ranks;
        const auto want = static_cast<double>(
            tokens * (3 * config.hidden + 2 * config.intermediate) * 8);
        EXPECT_NEAR(static_cast<double>(allocated.peak() - before), want,
                    0.03 * want)
            << ranks << " ranks, chunk " << chunk;
      });
    }
  }
}

TEST(Session, KeysBehindAWindowAreForgotten) {
  config::ModelConfig config = tiny("basic", "N");
  config.sliding_windows = {4};
  const models::Model model = make_model(config);
  on_ranks(2, [&](comm::Communicator& communicator) {
    Session session(model, options_of(1, 0), communicator);
    session.prefill(0, some_tokens(40, 1));
    for (int i = 0; i < 200; ++i) session.decode({0}, {1});
    EXPECT_LE(session.cache().layers[0].kv[0].tokens(), 4);
    EXPECT_LE(session.kv_bytes(), 3 * 2 * 80 * 2 * 6 * 8);
  });
}

TEST(Session, WhatItCannotDoIsRefused) {
  config::ModelConfig config = tiny("gla", "LN");
  config.max_position_embeddings = 10;
  const models::Model model = make_model(config);
  on_ranks(1, [&](comm::Communicator& communicator) {
    Session session(model, options_of(2, 0), communicator);
    const auto refused = [&](const auto& act, const char* text) {
      EXPECT_THAT(act, ThrowsMessage<InvalidArgument>(HasSubstr(text)));
    };
    refused([&] { session.prefill(0, {}); }, "got no tokens");
    refused([&] { session.prefill(2, Tokens{1}); }, "got sequence 2");
    refused([&] { session.prefill(0, Tokens{13}); }, "got the token 13");
    refused([&] { session.prefill(0, Tokens{-1}); }, "got the token -1");
    refused([&] { session.prefill(0, some_tokens(11, 1)); },
            "got a sequence of 11 tokens");
    refused([&] { session.decode({0}, {1}); }, "which is empty");
    session.prefill(0, some_tokens(10, 1));
    session.prefill(1, Tokens{1});
    refused([&] { session.decode({0}, {1}); }, "got a sequence of 11 tokens");
    refused([&] { session.decode({1, 0}, {1, 1}); }, "want ascending");
    refused([&] { session.decode({0}, {1, 1}); }, "want one each");
    refused([&] { Session(model, options_of(1, 0, "striped"), communicator); },
            "striped");
    refused([&] { Session(model, options_of(0, 0), communicator); },
            "got 0 sequences");
    refused([&] { Session(model, options_of(1, -1), communicator); },
            "chunks of -1");
  });
}

}  // namespace
}  // namespace ringweave::generate
