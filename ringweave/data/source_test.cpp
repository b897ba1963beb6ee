#include "ringweave/data/source.h"

#include <cstring>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/checkpoint/test_folder.h"
#include "ringweave/config/train_config.h"

namespace ringweave::data {
namespace {

using checkpoint::DataType;
using ::testing::AllOf;
using ::testing::HasSubstr;

using Tokens = std::vector<std::int64_t>;

constexpr std::int64_t kWithEnd = 257;

Tokens read(const Source& source, Range range) {
  Tokens tokens(static_cast<std::size_t>(range.size()));
  source.read(range, tokens.data());
  return tokens;
}

Tokens all(const Source& source) { return read(source, {0, source.tokens()}); }

Tokens offsets(const Source& source) {
  Tokens result;
  for (std::int64_t i = 0; i <= source.documents(); ++i) {
    result.push_back(source.offset(i));
  }
  return result;
}

template <typename Number>
std::string raw(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()),
          numbers.size() * sizeof(Number)};
}

TEST(RandomTokens, DependOnSeedAndPlaceAlone) {
  const auto source = random_tokens(1000, 7, 3);
  EXPECT_EQ(source->documents(), 1);
  EXPECT_EQ(source->tokens(), 1000);
  const Tokens tokens = all(*source);
  EXPECT_THAT(tokens,
              ::testing::Each(AllOf(::testing::Ge(0), ::testing::Lt(7))));
  for (std::int64_t token = 0; token < 7; ++token) {
    EXPECT_THAT(tokens, ::testing::Contains(token));
  }
  EXPECT_EQ(read(*source, {400, 410}),
            Tokens(tokens.begin() + 400, tokens.begin() + 410));
  EXPECT_EQ(all(*random_tokens(1000, 7, 3)), tokens);
  const auto other = random_tokens(1000, 7, 4);
  EXPECT_NE(all(*other), tokens);
  EXPECT_NE(other->hash(1), source->hash(1));
}

class Sources : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) const {
    return folder_.write(name, text);
  }
  std::string refusal(const std::string& path,
                      const SourceOptions& options = {}) const {
    try {
      open_source(path, options);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  checkpoint::TestFolder folder_{"data"};
};

TEST_F(Sources, TextIsBytesAndOneDocument) {
  const std::string path = file("a.txt", "a\xff");
  const auto plain = open_source(path, {});
  EXPECT_EQ(all(*plain), (Tokens{'a', 255}));
  EXPECT_EQ(offsets(*plain), (Tokens{0, 2}));
  const auto ended = open_source(path, {.vocab_size = kWithEnd});
  EXPECT_EQ(all(*ended), (Tokens{'a', 255, 256}));
  EXPECT_EQ(read(*ended, {1, 2}), (Tokens{255}));
  EXPECT_EQ(read(*ended, {2, 3}), (Tokens{256}));
  EXPECT_EQ(offsets(*ended), (Tokens{0, 3}));
}

TEST_F(Sources, JsonLinesAreDocuments) {
  const std::string path = file("a.jsonl",
                                "{\"id\": 1, \"text\": \"ab\\u00e9\"}\r\n"
                                "\n"
                                "{\"text\": \"\"}\n"
                                "  {\"text\": \"z\\n\"}");
  const auto plain = open_source(path, {});
  EXPECT_EQ(all(*plain), (Tokens{'a', 'b', 0xc3, 0xa9, 'z', '\n'}));
  EXPECT_EQ(offsets(*plain), (Tokens{0, 4, 4, 6}));
  const auto ended = open_source(path, {.vocab_size = kWithEnd});
  EXPECT_EQ(all(*ended),
            (Tokens{'a', 'b', 0xc3, 0xa9, 256, 256, 'z', '\n', 256}));
  EXPECT_EQ(read(*ended, {3, 7}), (Tokens{0xa9, 256, 256, 'z'}));
  EXPECT_EQ(ended->document_of(4), 0);
  EXPECT_EQ(ended->document_of(5), 1);
  const std::string other = file("b.ndjson", "{\"body\": \"x\"}\n");
  EXPECT_EQ(all(*open_source(other, {.text_field = "body"})), (Tokens{'x'}));
}

// Pieces of the file are read by several threads.
TEST_F(Sources, LongJsonLinesAreReadInOrder) {
  std::string text, want;
  for (int i = 0; i < 20000; ++i) {
    const std::string body = fmt::format("{:{}}", i, 1 + i * 7 % 900);
    text += "{\"text\": \"" + body + "\"}\n";
    want += body;
  }
  ASSERT_GT(text.size(), std::size_t{2} << 22);
  const auto source = open_source(file("a.jsonl", text), {});
  EXPECT_EQ(source->documents(), 20000);
  EXPECT_EQ(all(*source), Tokens(want.begin(), want.end()));
}

TEST_F(Sources, BadJsonLinesAreNamedWithTheirLine) {
  const std::string good = "{\"text\": \"a\"}\n";
  const auto said = [&](const std::string& line) {
    return refusal(file("a.jsonl", good + "\n" + line + "\n" + good));
  };
  const std::string place = "a.jsonl: line 3";
  EXPECT_THAT(said("{\"text\": \"\xff\"}"),
              AllOf(HasSubstr(place), HasSubstr("ill-formed UTF-8")));
  EXPECT_THAT(said("{\"text\": 7}"),
              AllOf(HasSubstr(place), HasSubstr("want a string")));
  EXPECT_THAT(said("{\"body\": \"a\"}"),
              AllOf(HasSubstr(place), HasSubstr("text")));
  EXPECT_THAT(said("[1]"), AllOf(HasSubstr(place), HasSubstr("object")));
  EXPECT_THAT(said("{\"text\": "), HasSubstr(place));
  EXPECT_THAT(refusal(file("b.jsonl", "\n \n")), HasSubstr("got no document"));
}

TEST_F(Sources, PlainTokensHaveAnEndToken) {
  const std::vector<std::uint16_t> numbers = {5, 0, 7, 8, 0, 65535};
  const std::string path = file("a.bin", raw(numbers));
  const auto joined =
      open_source(path, {.format = "uint16", .vocab_size = 65536});
  EXPECT_EQ(all(*joined), (Tokens{5, 0, 7, 8, 0, 65535}));
  EXPECT_EQ(offsets(*joined), (Tokens{0, 6}));
  const auto documents = open_source(
      path, {.format = "uint16", .end_token = 0, .vocab_size = 65536});
  EXPECT_EQ(offsets(*documents), (Tokens{0, 2, 5, 6}));
  EXPECT_EQ(read(*documents, {1, 3}), (Tokens{0, 7}));
  const std::vector<std::uint32_t> wide = {1, 70000};
  EXPECT_EQ(all(*open_source(file("b.bin", raw(wide)),
                             {.format = "uint32", .vocab_size = 70001})),
            (Tokens{1, 70000}));
}

TEST_F(Sources, BadPlainTokensAreRefused) {
  const std::string path = file("a.bin", raw(std::vector<std::uint16_t>{3, 9}));
  EXPECT_THAT(refusal(path), HasSubstr("got auto for " + path));
  EXPECT_THAT(refusal(path, {.format = "uint16", .vocab_size = 9}),
              HasSubstr("a.bin] got token 9 at place 1; want less than 9"));
  EXPECT_THAT(refusal(path, {.format = "uint16", .documents = true}),
              HasSubstr("[data.end_token] got none"));
  EXPECT_THAT(refusal(path, {.format = "uint16", .end_token = 7}),
              HasSubstr("[data.end_token] got 7, which " + path));
  EXPECT_THAT(refusal(file("b.bin", "abc"), {.format = "uint16"}),
              HasSubstr("got 3 bytes; want a multiple of 2"));
  EXPECT_THAT(refusal(file("b.bin", "abcdef"), {.format = "uint32"}),
              HasSubstr("got 6 bytes; want a multiple of 4"));
}

class TokenFiles : public Sources {
 protected:
  template <typename Number>
  std::string tokens(const std::vector<Number>& numbers, const Tokens& offsets,
                     std::map<std::string, std::string> metadata) const {
    std::string path = folder_.file("t.safetensors");
    std::filesystem::remove(path);
    checkpoint::write_safetensors(
        path,
        {{.name = "tokens",
          .type = sizeof(Number) == 2 ? DataType::uint16 : DataType::uint32,
          .shape = {static_cast<std::int64_t>(numbers.size())},
          .data = std::as_bytes(std::span(numbers))},
         {.name = "document_offsets",
          .type = DataType::int64,
          .shape = {static_cast<std::int64_t>(offsets.size())},
          .data = std::as_bytes(std::span(offsets))}},
        metadata);
    return path;
  }
  const std::map<std::string, std::string> metadata_ = {
      {"format", "ringweave.tokens"},
      {"version", "1"},
      {"vocab_size", "300"},
      {"tokenizer_sha256", "5e"}};
  // Of an odd number, so that the offsets are not aligned.
  const std::vector<std::uint16_t> three_ = {299, 1, 2};
};

TEST_F(TokenFiles, BothWidths) {
  const auto narrow =
      open_source(tokens(three_, {0, 2, 3}, metadata_), {.vocab_size = 300});
  EXPECT_EQ(all(*narrow), (Tokens{299, 1, 2}));
  EXPECT_EQ(offsets(*narrow), (Tokens{0, 2, 3}));
  auto wide = metadata_;
  wide["vocab_size"] = "100000";
  const auto source =
      open_source(tokens(std::vector<std::uint32_t>{99999, 4}, {0, 2}, wide),
                  {.vocab_size = 100000});
  EXPECT_EQ(read(*source, {0, 2}), (Tokens{99999, 4}));
}

TEST_F(TokenFiles, BadOnesAreRefused) {
  const SourceOptions model{.vocab_size = 300};
  const auto said = [&](const Tokens& offsets) {
    return refusal(tokens(three_, offsets, metadata_), model);
  };
  EXPECT_THAT(said({0, 2}), HasSubstr("got documents of 2 tokens; want at "
                                      "least one, and 3"));
  EXPECT_THAT(said({0}), HasSubstr("got documents of 0 tokens"));
  EXPECT_THAT(said({}), HasSubstr("got documents of 0 tokens"));
  EXPECT_THAT(said({1, 3}), HasSubstr("got document_offsets[0] 1; want 0"));
  EXPECT_THAT(said({0, 2, 2, 3}), HasSubstr("got document_offsets[2] 2"));
  EXPECT_THAT(refusal(tokens(three_, {0, 3}, metadata_), {.vocab_size = 299}),
              HasSubstr("[model.vocab_size] got 299; want at least 300"));
  auto other = metadata_;
  other["version"] = "2";
  EXPECT_THAT(refusal(tokens(three_, {0, 3}, other), model),
              HasSubstr("got format ringweave.tokens of version 2"));
  other["version"] = "1";
  other["vocab_size"] = "many";
  EXPECT_THAT(refusal(tokens(three_, {0, 3}, other), model),
              HasSubstr("got vocab_size many"));
  EXPECT_THAT(refusal(tokens(three_, {0, 3}, {}), model),
              HasSubstr("got no format in its metadata"));
  EXPECT_THAT(refusal(file("x.safetensors", "no header"), model),
              HasSubstr("x.safetensors]"));
}

TEST_F(TokenFiles, ATokenBeyondTheVocabularyIsNamedWhenItIsRead) {
  auto small = metadata_;
  small["vocab_size"] = "200";
  const auto source =
      open_source(tokens(three_, {0, 3}, small), {.vocab_size = 300});
  EXPECT_EQ(read(*source, {1, 3}), (Tokens{1, 2}));
  try {
    all(*source);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("t.safetensors] got token 299 at place 0"));
  }
}

TEST_F(Sources, HaveTheFormatsThatAConfigNames) {
  std::vector<std::string> formats = {"auto"};
  const std::string text = file("a", "{\"text\": \"ab\"}\n");
  for (const char* name : {"text", "json_lines", "uint16", "uint32"}) {
    const std::string path =
        name[0] == 'u' ? file("b", std::string(8, '\0')) : text;
    EXPECT_EQ(open_source(path, {.format = name})->format(), name);
    formats.emplace_back(name);
  }
  formats.emplace_back("tokens");
  EXPECT_THAT(formats,
              testing::UnorderedElementsAreArray(config::data_formats()));
}

TEST_F(Sources, ATextThatChangesIsAnError) {
  const std::string path = file("a", "abc");
  const auto source = open_source(path, {});
  file("a", "ab");
  EXPECT_THROW(all(*source), InvalidArgument);
}

TEST_F(Sources, FilesThatAreNoneAreNamed) {
  EXPECT_THAT(refusal(folder_.path() + "/none"), HasSubstr("No such file"));
  EXPECT_THAT(refusal(file("empty", "")), HasSubstr("got an empty file"));
  EXPECT_THAT(refusal(file("a.tar.GZ", "x")), HasSubstr("got auto for"));
}

}  // namespace
}  // namespace ringweave::data
