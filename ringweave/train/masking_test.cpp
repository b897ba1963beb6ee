#include "ringweave/train/masking.h"

#include <memory>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/models/model.h"
#include "ringweave/train/test_run.h"

namespace ringweave::train {
namespace {

using Use = Masking::Use;

constexpr std::int64_t kRows = 50;
constexpr std::int64_t kLength = 400;
constexpr std::int64_t kMask = 7;

TrainConfig encoder() {
  TrainConfig config;
  config.model.vocab_size = 100;
  config.model.causal = false;
  config.data.seq_len = kLength;
  config.data.mask_token = kMask;
  return config;
}

/// No token is the mask.
at::Tensor sequences() {
  return at::arange(kRows * (kLength + 1), at::kLong)
             .remainder(90)
             .view({kRows, kLength + 1}) +
         8;
}

double share(const at::Tensor& chosen, const at::Tensor& of) {
  return chosen.sum().item<double>() / of.sum().item<double>();
}

TEST(Masking, EightyTenTen) {
  const at::Tensor all = sequences();
  const at::Tensor read = all.narrow(1, 0, kLength);
  const auto [tokens, labels] = Masking(encoder(), Use::training).apply(all, 0);
  const at::Tensor chosen = labels != models::kNoLabel;
  // 20,000 tokens: four standard deviations.
  EXPECT_NEAR(share(chosen, at::ones_like(chosen)), 0.15, 0.0101);
  EXPECT_TRUE(at::where(chosen, labels, read).equal(read));
  EXPECT_TRUE(at::where(chosen, read, tokens).equal(read));
  const at::Tensor masked = tokens == kMask;
  EXPECT_NEAR(share(masked, chosen), 0.8, 0.0293);
  const at::Tensor other = chosen & ~masked & (tokens != read);
  EXPECT_NEAR(share(other, chosen), 0.1 * 98 / 99, 0.022);
  // Others are of the whole vocabulary.
  const at::Tensor seen = tokens.masked_select(other);
  EXPECT_LT(seen.min().item<std::int64_t>(), kMask);
  EXPECT_GT(seen.max().item<std::int64_t>(), 97);
}

TEST(Masking, DependsOnSeedNumberAndPlaceAlone) {
  const at::Tensor all = sequences();
  const Masking masking(encoder(), Use::training);
  const auto whole = masking.apply(all, 100);
  const auto part = masking.apply(all.narrow(0, 20, 3), 120);
  EXPECT_TRUE(part.tokens.equal(whole.tokens.narrow(0, 20, 3)));
  EXPECT_TRUE(part.labels.equal(whole.labels.narrow(0, 20, 3)));
  EXPECT_EQ(masking.count(100, kRows),
            (whole.labels != models::kNoLabel).sum().item<std::int64_t>());
  EXPECT_EQ(masking.count(120, 3),
            (part.labels != models::kNoLabel).sum().item<std::int64_t>());

  TrainConfig another = encoder();
  another.seed = 1;
  for (const auto& other : {Masking(another, Use::training).apply(all, 100),
                            Masking(encoder(), Use::validation).apply(all, 100),
                            masking.apply(all, 150)}) {
    EXPECT_FALSE(other.labels.equal(whole.labels));
  }
  EXPECT_TRUE(all.equal(sequences()));
}

TEST(Masking, AllOrNearlyNone) {
  TrainConfig config = encoder();
  config.data.mask_fraction = 1;
  EXPECT_EQ(Masking(config, Use::training).count(3, 2), 2 * kLength);
  config.data.mask_fraction = 1e-12;
  EXPECT_EQ(Masking(config, Use::training).count(3, 2), 0);
}

TEST(Masking, TokensThatAreNoBytesNeedAMask) {
  TrainConfig config = tiny(1, ElementType::float32);
  config.model.causal = false;
  config.model.vocab_size = 258;
  EXPECT_NO_THROW(check_mask_token(config, dataset(config)));
  std::vector<std::unique_ptr<const data::Source>> sources;
  sources.push_back(data::random_tokens(1000, 258, 1));
  config.data.validation_fraction = 0;
  const Dataset numbers = data::make_dataset(
      std::make_shared<const data::Corpus>(std::move(sources)), nullptr,
      config.data);
  EXPECT_THAT([&] { check_mask_token(config, numbers); },
              testing::ThrowsMessage<InvalidArgument>(
                  testing::HasSubstr("[data.mask_token] got none")));
  config.data.mask_token = 3;
  EXPECT_NO_THROW(check_mask_token(config, numbers));
}

}  // namespace
}  // namespace ringweave::train
