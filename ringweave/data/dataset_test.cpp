#include "ringweave/data/dataset.h"

#include <span>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/checkpoint/test_folder.h"
#include "ringweave/data/test_source.h"

namespace ringweave::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string text(const Corpus& corpus, const Range& range) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(range.size()));
  corpus.read(range, tokens.data());
  return {tokens.begin(), tokens.end()};
}

std::string sequence(const Sequences& sequences, std::int64_t index,
                     std::int64_t seq_len) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(seq_len) + 1);
  sequences.read(index, tokens.data());
  return {tokens.begin(), tokens.end()};
}

TEST(Corpus, JoinsFilesAndKnowsDocuments) {
  const auto corpus = test::corpus({{"ab", "c"}, {"", "def", ""}, {}, {"g"}});
  EXPECT_EQ(corpus->tokens(), 7);
  EXPECT_EQ(corpus->documents(), 6);
  EXPECT_EQ(text(*corpus, {0, 7}), "abcdefg");
  EXPECT_EQ(text(*corpus, {1, 4}), "bcd");
  EXPECT_EQ(text(*corpus, {5, 7}), "fg");
  EXPECT_THAT(corpus->document_starts({0, 7}), ElementsAre(0, 2, 3, 6));
  EXPECT_THAT(corpus->document_starts({3, 6}), ElementsAre(3));
  EXPECT_THAT(corpus->document_starts({4, 6}), IsEmpty());
  EXPECT_EQ(corpus->nearest_start(5), 6);
  EXPECT_EQ(corpus->nearest_start(4), 3);
  EXPECT_EQ(test::corpus({{"abc"}})->nearest_start(2), 0);
}

TEST(Corpus, HashSeesBytesAndFiles) {
  const auto hash = [](const std::vector<std::vector<std::string>>& files) {
    return test::corpus(files)->hash();
  };
  const auto base = hash({{"abcd"}, {"ef"}});
  EXPECT_EQ(base, hash({{"abcd"}, {"ef"}}));
  EXPECT_NE(base, hash({{"abcx"}, {"ef"}}));
  EXPECT_NE(base, hash({{"abcde"}, {"f"}}));
  // Of a large file samples, with both ends.
  std::string large(3 << 20, 'x');
  const auto before = hash({{large}});
  large.back() = 'y';
  EXPECT_NE(before, hash({{large}}));
  large.back() = 'x';
  EXPECT_EQ(before, hash({{large}}));
  EXPECT_NE(before, hash({{large + "x"}}));
  std::ranges::fill(large, 'y');
  EXPECT_NE(before, hash({{large}}));
}

TEST(Sequences, GoThroughAllTokensOnceInOrder) {
  // 10 tokens: three whole sequences of 3, each with its last label.
  const auto corpus = test::corpus({{"abcd", "efghij"}});
  const Sequences sequences(corpus, {0, 10}, 3, true);
  ASSERT_EQ(sequences.size(), 3);
  EXPECT_EQ(sequence(sequences, 0, 3), "abcd");
  EXPECT_EQ(sequence(sequences, 1, 3), "defg");
  EXPECT_EQ(sequence(sequences, 2, 3), "ghij");
  EXPECT_THAT(sequences.borders(0), IsEmpty());
  EXPECT_THAT(sequences.borders(1), ElementsAre(1));
  EXPECT_THAT(sequences.borders(2), IsEmpty());
  // A border behind the last token is one of its label.
  EXPECT_THAT(Sequences(corpus, {0, 10}, 4, true).borders(0), ElementsAre(4));
  EXPECT_THAT(Sequences(corpus, {0, 10}, 4, false).borders(0), IsEmpty());
  EXPECT_EQ(Sequences(corpus, {0, 3}, 3, false).size(), 0);
  EXPECT_EQ(Sequences().size(), 0);
}

TEST(HeldOut, IsWholeDocumentsWhereTheyAreSmall) {
  const auto held_out = [](const std::vector<std::string>& documents,
                           double fraction) {
    return make_dataset(test::corpus({documents}), nullptr,
                        {.validation_fraction = fraction, .seq_len = 1})
        .validation.tokens();
  };
  // 20 tokens; the border at 14 is within a half of the fraction of 15.
  EXPECT_EQ(held_out({"01234", "56789abcd", "efg", "hij"}, 0.25), 6);
  // The nearest one is too far away.
  EXPECT_EQ(held_out({"0123456789", "abcdefghij"}, 0.25), 5);
  EXPECT_EQ(held_out({"0123456789abcdefghij"}, 0.25), 5);
  EXPECT_EQ(held_out({"01234", "56789"}, 0), 0);
}

class Files : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) const {
    return folder_.write(name, text);
  }
  std::string refusal(const DataConfig& config,
                      std::int64_t vocab_size = 256) const {
    try {
      open_dataset(config, vocab_size);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  checkpoint::TestFolder folder_{"data"};
};

TEST_F(Files, AreJoinedAndTheEndIsHeldOut) {
  DataConfig config{.files = {file("a", "01234567"), file("b", "89abcdefghij")},
                    .validation_fraction = 0.25,
                    .seq_len = 3};
  const Dataset dataset = open_dataset(config, 256);
  EXPECT_EQ(dataset.train.tokens(), 15);
  EXPECT_EQ(dataset.validation.tokens(), 5);
  EXPECT_EQ(sequence(dataset.validation, 0, 3), "fghi");
  config.validation_fraction = 0;
  EXPECT_EQ(open_dataset(config, 256).validation.size(), 0);
  config.validation_files = {file("c", "wxyz")};
  config.validation_fraction = 0.25;
  EXPECT_EQ(sequence(open_dataset(config, 256).validation, 0, 3), "wxyz");
  EXPECT_EQ(open_dataset(config, 256).train.tokens(), 20);
}

TEST_F(Files, BadOnesAreOneClearErrorEach) {
  const std::string good = file("good", "some text");
  const std::string empty = file("empty", "");
  EXPECT_THAT(refusal({.files = {good, empty}}),
              HasSubstr("got an empty file " + empty));
  EXPECT_THAT(refusal({.files = {good}, .validation_files = {empty}}),
              HasSubstr("got an empty file"));
  EXPECT_THAT(
      refusal({.files = {good}, .validation_fraction = 0, .seq_len = 9}),
      HasSubstr("got 9 tokens to train on; want at least 10"));
  EXPECT_THAT(
      refusal({.files = {good}, .validation_fraction = 0.2, .seq_len = 4}),
      HasSubstr("got 2 tokens to validate on; want at least 5"));
  EXPECT_THAT(refusal({.files = {good}}, 255),
              HasSubstr("[model.vocab_size] got 255; want at least 256"));
  EXPECT_THAT(refusal({.files = {good}, .documents = "reset"}, 256),
              HasSubstr("want at least 257, since tokens are bytes and 256 "
                        "ends a document"));
  EXPECT_THAT(refusal({.files = {good}, .text_field = "body"}),
              HasSubstr("[data.text_field] got body without JSON lines"));
  EXPECT_THAT(refusal({.files = {good}, .end_token = 3}),
              HasSubstr("[data.end_token] got 3 without files of format"));
}

/// A token file of two documents, made by the tokenizer of that hash.
std::string token_file(const checkpoint::TestFolder& folder,
                       const std::string& name, const std::string& tokenizer) {
  const std::vector<std::uint16_t> tokens = {1, 2, 3, 4};
  const std::vector<std::int64_t> offsets = {0, 2, 4};
  std::string path = folder.file(name + ".safetensors");
  checkpoint::write_safetensors(path,
                                {{.name = "tokens",
                                  .type = checkpoint::DataType::uint16,
                                  .shape = {4},
                                  .data = std::as_bytes(std::span(tokens))},
                                 {.name = "document_offsets",
                                  .type = checkpoint::DataType::int64,
                                  .shape = {3},
                                  .data = std::as_bytes(std::span(offsets))}},
                                {{"format", "ringweave.tokens"},
                                 {"version", "1"},
                                 {"vocab_size", "5"},
                                 {"tokenizer_sha256", tokenizer}});
  return path;
}

TEST_F(Files, OfOtherVocabulariesAreNotJoined) {
  const std::string text = file("text", "some text");
  const std::string a = token_file(folder_, "a", "aa");
  const std::string b = token_file(folder_, "b", "bb");
  const std::string c = token_file(folder_, "c", "aa");
  const DataConfig config{
      .files = {a, c}, .validation_fraction = 0, .seq_len = 2};
  EXPECT_EQ(open_dataset(config, 256).train.tokens(), 8);
  EXPECT_THAT(refusal({.files = {a, b}}), HasSubstr("want one vocabulary"));
  EXPECT_THAT(refusal({.files = {a, text}}), HasSubstr("want one vocabulary"));
  EXPECT_THAT(refusal({.files = {a}, .validation_files = {text}}),
              HasSubstr("[data.validation_files] got bytes; want tokenizer"));
}

TEST_F(Files, TheHashKnowsFormats) {
  const std::string content = "{\"text\": \"abcdef\"}";
  DataConfig config{
      .files = {file("a", content)}, .validation_fraction = 0, .seq_len = 2};
  const std::string as_text = open_dataset(config, 256).hash();
  config.format = "json_lines";
  EXPECT_NE(open_dataset(config, 256).hash(), as_text);
}

TEST_F(Files, PlainTokensAreHeldOutByDocuments) {
  std::string tokens;
  for (int i = 0; i < 20; ++i) {
    tokens += i == 13 ? '\7' : '\1';
    tokens += '\0';
  }
  DataConfig config{.files = {file("t", tokens)},
                    .validation_fraction = 0.25,
                    .format = "uint16",
                    .seq_len = 1};
  EXPECT_EQ(open_dataset(config, 256).validation.tokens(), 5);
  config.end_token = 7;
  EXPECT_EQ(open_dataset(config, 256).validation.tokens(), 6);
  config.documents = "reset";
  EXPECT_EQ(open_dataset(config, 256).validation.tokens(), 6);
}

TEST_F(Files, MoreOfThemThanAProcessMayMap) {
  DataConfig config{.validation_fraction = 0, .seq_len = 8};
  const std::string path = file("a", "text");
  config.files.assign(70000, path);
  EXPECT_EQ(open_dataset(config, 256).train.tokens(), 280000);
}

TEST_F(Files, DocumentsOfBytesEnd) {
  const DataConfig config{.files = {file("a", "abc"), file("b", "de")},
                          .validation_fraction = 0,
                          .documents = "reset",
                          .seq_len = 6};
  const Dataset dataset = open_dataset(config, 257);
  EXPECT_EQ(dataset.train.tokens(), 7);
  EXPECT_THAT(dataset.train.borders(0), ElementsAre(4));
}

TEST(ReadsBytes, ByFormatOrNames) {
  const auto bytes = [](const std::vector<std::string>& files,
                        const std::string& format = "auto",
                        std::int64_t vocab_size = 32000) {
    DataConfig config;
    config.files = files;
    config.format = format;
    return reads_bytes(config, vocab_size);
  };
  for (const char* format : {"text", "json_lines"}) {
    EXPECT_TRUE(bytes({"gone.bin"}, format));
  }
  for (const char* format : {"tokens", "uint16", "uint32"}) {
    EXPECT_FALSE(bytes({"gone.txt"}, format));
  }
  EXPECT_TRUE(bytes({"gone.txt", "gone/more.JSONL", "gone/*.md"}));
  EXPECT_FALSE(bytes({"gone.safetensors"}));
  EXPECT_FALSE(bytes({"gone.txt", "gone/*.safetensors"}));
  EXPECT_FALSE(bytes({"gone.bin"}));

  // A folder that is there counts by its files, and else by the vocabulary.
  const checkpoint::TestFolder folder("reads-bytes");
  const std::string text = folder.write("README", "text");
  EXPECT_TRUE(bytes({text}));
  EXPECT_TRUE(bytes({folder.path()}));
  EXPECT_TRUE(bytes({folder.path() + "/*"}));
  folder.write("a.safetensors", "tokens");
  EXPECT_FALSE(bytes({folder.path()}));
  EXPECT_FALSE(bytes({"gone"}));
  EXPECT_FALSE(bytes({"gone/*"}));
  EXPECT_TRUE(bytes({"gone"}, "auto", 257));
}

}  // namespace
}  // namespace ringweave::data
