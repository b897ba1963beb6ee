#include "ringweave/generate/generation.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/generate/test_session.h"

namespace ringweave::generate {
namespace {

using namespace test;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

struct Outcome {
  Generated generated;
  Tokens told;  ///< of request 0
};

/// Of rank 0; all ranks must have the same.
Outcome on(int ranks, const models::Model& model,
           const std::vector<Request>& requests,
           const GenerationOptions& options, std::int64_t chunk = 0) {
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  on_ranks(ranks, [&](comm::Communicator& communicator) {
    Session session(model, options_of(requests.size(), chunk), communicator);
    Outcome& mine = outcomes[static_cast<std::size_t>(communicator.rank())];
    mine.generated =
        generate(session, requests, options,
                 [&](std::size_t request, std::size_t, std::int64_t token) {
                   if (request == 0) mine.told.push_back(token);
                 });
  });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.told, outcomes[0].told);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      for (std::size_t j = 0; j < requests[i].prompts.size(); ++j) {
        EXPECT_EQ(outcome.generated.replies[i][j].tokens,
                  outcomes[0].generated.replies[i][j].tokens);
      }
    }
  }
  return outcomes[0];
}

Tokens first_reply(const Outcome& outcome) {
  return outcome.generated.replies[0][0].tokens;
}

TEST(Generation, GreedyTokensAreThoseOfWholePasses) {
  const models::Model model = make_model(tiny("gla", "LN"));
  Tokens tokens = some_tokens(9, 2);
  const GenerationOptions options{.max_tokens = 12};
  for (const int ranks : {1, 2, 3, 5}) {
    const Outcome outcome = on(ranks, model, {{{tokens}}}, options);
    const Reply& reply = outcome.generated.replies[0][0];
    ASSERT_EQ(reply.tokens.size(), 12u);
    EXPECT_EQ(outcome.told, reply.tokens);
    EXPECT_EQ(reply.end, End::max_tokens);
    EXPECT_EQ(outcome.generated.step_seconds.size(), 11u);
    Tokens all = tokens;
    for (std::size_t i = 0; i < reply.tokens.size(); ++i) {
      const at::Tensor last = whole_pass(model, all)[-1];
      EXPECT_EQ(reply.tokens[i], last.argmax().item<std::int64_t>());
      EXPECT_NEAR(reply.log_probabilities[i],
                  at::log_softmax(last, 0)[reply.tokens[i]].item<double>(),
                  1e-9);
      all.push_back(reply.tokens[i]);
    }
  }
}

TEST(Generation, Float32TokensAgreeOverRanksWhereTheTopTwoAreApart) {
  const config::ModelConfig config = tiny("lightning", "LN");
  const models::Model model = make_model(config, ElementType::float32);
  const Tokens prompt = some_tokens(11, 4);
  const GenerationOptions options{.max_tokens = 20};
  const Tokens want = first_reply(on(1, model, {{{prompt}}}, options));
  for (const int ranks : {2, 3, 5}) {
    const Tokens got = first_reply(on(ranks, model, {{{prompt}}}, options));
    Tokens all = prompt;
    for (std::size_t i = 0; i < want.size() && got[i] == want[i]; ++i) {
      all.push_back(want[i]);
    }
    if (got == want) continue;
    const at::Tensor top = std::get<0>(whole_pass(model, all)[-1].topk(2));
    EXPECT_LE((top[0] - top[1]).item<double>(), 1e-4);
  }
}

// A draw depends on seed and place alone, so ranks, chunks and other sequences
// change nothing.
TEST(Generation, DrawsAreTheSameOnAllRanksAndInBatches) {
  const models::Model model = make_model(tiny("lightning", "LN"));
  const Tokens a = some_tokens(7, 1);
  const Tokens b = some_tokens(3, 2);
  GenerationOptions options{.max_tokens = 10,
                            .sampling = {.temperature = 1, .seed = 8}};
  const Outcome one = on(1, model, {{{a}}}, options);
  for (const int ranks : {2, 3}) {
    EXPECT_EQ(first_reply(on(ranks, model, {{{a}}}, options, 2)),
              first_reply(one));
    const Outcome both = on(ranks, model, {{{a}}, {{b}}}, options);
    EXPECT_EQ(first_reply(both), first_reply(one));
    GenerationOptions next = options;
    next.sampling.seed += 1;
    EXPECT_EQ(both.generated.replies[1][0].tokens,
              first_reply(on(1, model, {{{b}}}, next)));
  }
  options.sampling.seed = 9;
  EXPECT_NE(first_reply(on(1, model, {{{a}}}, options)), first_reply(one));
}

TEST(Generation, LaterPromptsFollowTheReply) {
  const models::Model model = make_model(tiny("gla", "LN"));
  const Tokens first = some_tokens(5, 3);
  const Tokens second = some_tokens(2, 4);
  const GenerationOptions options{.max_tokens = 4};
  const Outcome two = on(3, model, {{{first, second}}}, options);
  Tokens whole = first;
  for (const std::int64_t token : two.generated.replies[0][0].tokens) {
    whole.push_back(token);
  }
  whole.insert(whole.end(), second.begin(), second.end());
  EXPECT_EQ(two.generated.replies[0][1].tokens,
            first_reply(on(1, model, {{{whole}}}, options)));
  EXPECT_EQ(two.generated.prompt_tokens, 7);
}

TEST(Generation, EndTokensAndStopsEndAReply) {
  const models::Model model = make_model(tiny("gla", "LN"));
  const Tokens prompt = some_tokens(6, 7);
  const GenerationOptions options{.max_tokens = 12};
  const Tokens all = first_reply(on(1, model, {{{prompt}}}, options));
  const auto first_of = [&](std::int64_t token) {
    return std::find(all.begin(), all.end(), token) - all.begin();
  };
  const std::int64_t end = all[5];
  GenerationOptions ending = options;
  ending.end_tokens = {end};
  for (const int ranks : {1, 3}) {
    const Outcome ended = on(ranks, model, {{{prompt}}}, ending);
    EXPECT_EQ(ended.generated.replies[0][0].end, End::end_token);
    const Tokens until(all.begin(), all.begin() + first_of(end));
    EXPECT_EQ(first_reply(ended), until);
    EXPECT_EQ(ended.told, until);
  }
  GenerationOptions stopping = options;
  stopping.stops = {{all[3], all[4], all[5]}};
  const Outcome stopped = on(2, model, {{{prompt}}}, stopping);
  if (stopped.generated.replies[0][0].end == End::stop) {
    const auto size = static_cast<std::ptrdiff_t>(first_reply(stopped).size());
    EXPECT_LE(size, 3);
    EXPECT_EQ(first_reply(stopped), Tokens(all.begin(), all.begin() + size));
    EXPECT_EQ(stopped.told, first_reply(stopped));
  } else {
    ADD_FAILURE() << "no stop";
  }
}

// What might have become a stop is told late, but told.
TEST(Generation, AStopThatDoesNotComeIsTold) {
  const models::Model model = make_model(tiny("gla", "LN"));
  const Tokens prompt = some_tokens(6, 7);
  GenerationOptions options{.max_tokens = 6};
  const Tokens all = first_reply(on(1, model, {{{prompt}}}, options));
  options.stops = {{all[4], all[5], 0, 0, 0, 0, 0}};
  const Outcome outcome = on(1, model, {{{prompt}}}, options);
  EXPECT_EQ(outcome.generated.replies[0][0].end, End::max_tokens);
  EXPECT_EQ(outcome.told, all);
}

TEST(Generation, WhatCannotBeDoneIsRefused) {
  config::ModelConfig config = tiny("gla", "LN");
  config.max_position_embeddings = 20;
  const auto refused = [&](const std::vector<Request>& requests,
                           const GenerationOptions& options, const char* text) {
    EXPECT_THAT([&] { check(config, requests, options); },
                ThrowsMessage<InvalidArgument>(HasSubstr(text)));
  };
  const GenerationOptions few{.max_tokens = 4};
  refused({}, few, "got no prompt");
  refused({{}}, few, "got no prompt for sequence 0");
  refused({{{{1}}}, {{{}}}}, few, "got an empty prompt for sequence 1");
  refused({{{{13}}}}, few, "got the id 13 in a prompt");
  refused({{{{1}, some_tokens(12, 1)}}}, few, "got 21 tokens");
  refused({{{{1}}}}, {.max_tokens = -1}, "[max_tokens] got -1");
  refused({{{{1}}}}, {.max_tokens = 1, .sampling = {.top_p = 2}}, "[top_p]");
  refused({{{{1}}}}, {.max_tokens = 1, .stops = {{}}}, "[stop] got an empty");
  refused({{{{1}}}}, {.max_tokens = 1, .stops = {{13}}}, "in a stop");
  check(config, {{{{1}, some_tokens(11, 1)}}}, few);
}

}  // namespace
}  // namespace ringweave::generate
