#include "ringweave/generate/cache_folder.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/test_folder.h"
#include "ringweave/generate/generation.h"
#include "ringweave/generate/test_session.h"

namespace ringweave::generate {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class CacheFolder : public ::testing::Test {
 protected:
  CacheFolder() : model_(make_model(config())) {}

  static config::ModelConfig config() {
    config::ModelConfig config = tiny("gla", "LNN");
    config.layers = 6;
    config.sliding_windows = {0, 4};
    config.linear.set("convolution", 3);
    return config;
  }

  void save(int ranks, const std::vector<Tokens>& sequences) const {
    on_ranks(ranks, [&](comm::Communicator& communicator) {
      Session session(model_, options_of(sequences.size(), 5), communicator);
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        session.prefill(i, sequences[i]);
        session.decode({i}, {1});
      }
      save_cache(session, "weights", path());
    });
  }

  std::string path() const { return folder_.path() + "/cache"; }

  checkpoint::TestFolder folder_{"cache"};
  models::Model model_;
};

TEST_F(CacheFolder, GoesOnOnOtherRanksAsIfNothingHadHappened) {
  const std::vector<Tokens> sequences = {some_tokens(13, 1), some_tokens(2, 2)};
  save(3, sequences);
  EXPECT_THAT(cached_tokens(path()), ElementsAre(14, 3));
  for (const int ranks : {1, 2, 3, 5}) {
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      Tokens whole = sequences[s];
      whole.push_back(1);
      const Tokens more = some_tokens(4, 9);
      whole.insert(whole.end(), more.begin(), more.end());
      whole.push_back(7);
      const at::Tensor want = whole_pass(model_, whole)[-1];
      on_ranks(ranks, [&](comm::Communicator& communicator) {
        Session session(model_, options_of(2, 0), communicator);
        load_cache(path(), "weights", session);
        session.prefill(s, more);
        const Logits logits = session.decode({s}, {7});
        if (session.owner(s) != communicator.rank()) return;
        EXPECT_LE((logits.values[0] - want).abs().max().item<double>(), 1e-10);
      });
    }
  }
}

TEST_F(CacheFolder, OtherFoldersAreRefused) {
  save(2, {some_tokens(5, 1)});
  EXPECT_THROW(save(2, {some_tokens(5, 1)}), InvalidArgument);
  const auto refused = [&](const models::Model& model, std::size_t sequences,
                           const std::string& weights, const char* text) {
    EXPECT_THAT(
        [&] {
          on_ranks(2, [&](comm::Communicator& communicator) {
            Session session(model, options_of(sequences, 0), communicator);
            load_cache(path(), weights, session);
          });
        },
        ThrowsMessage<InvalidArgument>(HasSubstr(text)));
  };
  refused(model_, 1, "other", "of other weights");
  refused(model_, 2, "weights", "got a cache of 1 sequences; want 2");
  refused(make_model(tiny("gla", "LN")), 1, "weights", "of another model");
  refused(make_model(config(), ElementType::float32), 1, "weights",
          "another type");
  // A bit of a file.
  {
    std::fstream file(path() + "/rank-00001.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('x');
  }
  refused(model_, 1, "weights", "rank-00001.safetensors");
  std::filesystem::remove(path() + "/rank-00000.safetensors");
  refused(model_, 1, "weights", "rank-00000.safetensors");
  std::filesystem::remove_all(path());
  refused(model_, 1, "weights", "manifest.json");
}

}  // namespace
}  // namespace ringweave::generate
