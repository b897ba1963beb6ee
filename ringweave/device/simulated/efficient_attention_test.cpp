#include <ostream>

#include "ringweave/device/simulated/test_attention.h"
#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::IsEmpty;

struct EfficientCase {
  std::int64_t rows, keys;
  bool causal = false;
  bool bias = false;
  at::ScalarType type = at::kFloat;
};
std::ostream& operator<<(std::ostream& out, const EfficientCase& each) {
  return out << each.rows << " × " << each.keys
             << (each.causal ? ", causal " : " ")
             << (each.bias ? ", with a bias " : " ") << each.type;
}

struct EfficientInputs {
  EfficientInputs(const Reference& reference, at::ScalarType type) {
    const auto on_device = [&](const Tensor& tensor) {
      return tensor.detach().to(type).to(device(0));
    };
    q = on_device(reference.q);
    k = on_device(reference.k);
    v = on_device(reference.v);
    grad_out = on_device(reference.grad_out);
  }

  auto forward(bool causal = false, bool with_lse = true) const {
    return at::_scaled_dot_product_efficient_attention(
        q, k, v, bias.defined() ? std::optional(bias) : std::nullopt, with_lse,
        0.0, causal);
  }
  auto backward(const Tensor& out, const Tensor& lse,
                bool causal = false) const {
    const Tensor none = at::zeros({}, at::kLong);
    return at::_scaled_dot_product_efficient_attention_backward(
        grad_out, q, k, v, bias, out, lse, none, none, 0.0,
        {true, true, true, bias.defined()}, causal);
  }

  Tensor q, k, v, grad_out, bias;
};

/// Rows of a bias begin at multiples of 16 bytes.
Tensor aligned(const Tensor& bias, const Tensor& like) {
  const std::int64_t keys = bias.size(-1);
  Tensor padded =
      at::zeros({like.size(0), like.size(1), like.size(2), (keys + 7) / 8 * 8},
                like.options());
  Tensor view = padded.narrow(3, 0, keys);
  view.copy_(bias);
  return view;
}

Reference small_efficient(std::int64_t rows, std::int64_t keys,
                          at::ScalarType type = at::kFloat) {
  return {{2, 3, rows, 16}, {2, 3, keys, 16}, type};
}

class EfficientAttentionMasks : public testing::TestWithParam<EfficientCase> {
 protected:
  EfficientAttentionMasks() { settle(); }
};

TEST_P(EfficientAttentionMasks, IsThatOfTheFormula) {
  const EfficientCase each = GetParam();
  Reference want = small_efficient(each.rows, each.keys, each.type);
  Tensor bias = mask_of(each.rows, each.keys, [&](auto row, auto key) {
    return !each.causal || key <= row;
  });
  const Tensor added =
      at::randn({2, 3, each.rows, each.keys}).to(each.type).to(at::kDouble);
  Tensor total = each.bias ? (bias + added) : bias.expand_as(added);
  total = total.contiguous().requires_grad_();
  want.run(total);
  EfficientInputs inputs(want, each.type);
  if (each.bias) inputs.bias = aligned(added, inputs.q);
  const double tolerance = tolerance_of(each.type);

  const auto [out, lse, seed, offset] = inputs.forward(each.causal);
  EXPECT_EQ(out.scalar_type(), each.type);
  EXPECT_TRUE(out.transpose(1, 2).is_contiguous());
  EXPECT_EQ(lse.scalar_type(), at::kFloat);
  expect_near("out", out, want.out, tolerance);
  expect_near("lse", lse.narrow(2, 0, each.rows), want.lse, 1e-5);

  const auto [dq, dk, dv, dbias] = inputs.backward(out, lse, each.causal);
  expect_near("dq", dq, want.q.grad(), tolerance);
  expect_near("dk", dk, want.k.grad(), tolerance);
  expect_near("dv", dv, want.v.grad(), tolerance);
  EXPECT_EQ(dbias.defined(), each.bias);
  if (each.bias) expect_near("dbias", dbias, total.grad(), tolerance);
  EXPECT_THAT(take_reports(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    All, EfficientAttentionMasks,
    testing::Values(EfficientCase{7, 7}, EfficientCase{5, 9, true},
                    EfficientCase{9, 5, true}, EfficientCase{6, 8, false, true},
                    EfficientCase{6, 11, true, true},
                    EfficientCase{32, 33, true},
                    EfficientCase{33, 7, false, false, at::kHalf},
                    EfficientCase{6, 7, true, true, at::kBFloat16}));

TEST(EfficientAttention, PadsTheLseToThirtyTwoRows) {
  const auto lse_of = [](std::int64_t rows, bool wanted = true) {
    const EfficientInputs inputs(small_efficient(rows, 5), at::kFloat);
    return std::get<1>(inputs.forward(false, wanted));
  };
  EXPECT_EQ(lse_of(1).size(2), 32);
  EXPECT_EQ(lse_of(32).size(2), 32);
  EXPECT_EQ(lse_of(33).size(2), 64);
  EXPECT_TRUE(lse_of(33).narrow(2, 33, 31).isposinf().all().item<bool>());
  EXPECT_EQ(lse_of(33, false).size(2), 0);
}

TEST(EfficientAttention, GivesRowsWithoutKeysNoNumbers) {
  EfficientInputs inputs(small_efficient(4, 5), at::kFloat);
  inputs.bias = aligned(at::zeros({4, 5}), inputs.q);
  inputs.bias.select(2, 1).fill_(-INFINITY);
  const auto [out, lse, seed, offset] = inputs.forward();
  EXPECT_TRUE(out.select(2, 1).isnan().all().item<bool>());
  EXPECT_TRUE(lse.select(2, 1).isneginf().all().item<bool>());
  EXPECT_TRUE(out.select(2, 0).isfinite().all().item<bool>());
}

TEST(EfficientAttention, GoesBackThroughSomeOfTheKeys) {
  Reference want = small_efficient(6, 10);
  want.run(at::zeros({6, 10}, at::kDouble));
  const EfficientInputs all(want, at::kFloat);
  const auto [out, lse, seed, offset] = all.forward();
  Tensor dq = at::zeros_like(want.q.grad());
  for (const auto& [first, count] : {std::pair{0, 3}, std::pair{3, 7}}) {
    EfficientInputs part = all;
    part.k = all.k.narrow(2, first, count);
    part.v = all.v.narrow(2, first, count);
    const auto [dq_part, dk, dv, none] = part.backward(out, lse);
    dq += dq_part.cpu();
    expect_near("dk", dk, want.k.grad().narrow(2, first, count), 1e-5);
    expect_near("dv", dv, want.v.grad().narrow(2, first, count), 1e-5);
  }
  expect_near("dq", dq, want.q.grad(), 1e-5);
}

TEST(EfficientAttention, HasGradients) {
  Reference want = small_efficient(5, 9);
  want.run(at::zeros({5, 9}, at::kDouble));
  EfficientInputs inputs(want, at::kFloat);
  settle();
  for (const Tensor& input : {inputs.q, inputs.k, inputs.v}) {
    input.set_requires_grad(true);
  }
  std::get<0>(inputs.forward()).backward(inputs.grad_out);
  expect_near("dq", inputs.q.grad(), want.q.grad(), 1e-5);
  expect_near("dk", inputs.k.grad(), want.k.grad(), 1e-5);
  expect_near("dv", inputs.v.grad(), want.v.grad(), 1e-5);
  EXPECT_THAT(take_reports(), IsEmpty());
}

class EfficientAttentionErrors : public testing::Test {
 protected:
  EfficientInputs inputs{small_efficient(4, 5), at::kFloat};
};

TEST_F(EfficientAttentionErrors, NameWhatItCanNotDo) {
  const auto expect_error = [](const EfficientInputs& wrong) {
    EXPECT_THROW(wrong.forward(), c10::Error);
  };
  EXPECT_NO_THROW(inputs.forward());
  expect_error({small_efficient(4, 5), at::kDouble});
  expect_error({{{2, 4, 4, 16}, {2, 2, 5, 16}, at::kFloat}, at::kFloat});
  EfficientInputs strided = inputs;
  strided.q = at::zeros({2, 3, 16, 4}, device(0)).transpose(2, 3);
  expect_error(strided);
  EfficientInputs biased = inputs;
  biased.bias = at::zeros({4, 5}, device(0));
  expect_error(biased);
  biased.bias = at::zeros({2, 3, 4, 5}, device(0));
  expect_error(biased);
  biased.bias = aligned(at::zeros({4, 5}), inputs.q);
  EXPECT_NO_THROW(biased.forward());
}

TEST_F(EfficientAttentionErrors, NameAnLseThatIsNotPadded) {
  const auto [out, lse, seed, offset] = inputs.forward();
  EXPECT_NO_THROW(inputs.backward(out, lse));
  EXPECT_THROW(inputs.backward(out, lse.narrow(2, 0, 4)), c10::Error);
}

class EfficientAttentionOrder : public TwoStreams {
 protected:
  EfficientInputs inputs{small_efficient(4, 5), at::kFloat};
};

TEST_F(EfficientAttentionOrder, IsThatOfItsInputsAndResults) {
  settle();
  on(a, [&] { inputs.k.fill_(1); });
  Tensor out;
  on(b, [&] { out = std::get<0>(inputs.forward()); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
  on(a, [&] { out.sum(); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
}

}  // namespace
}  // namespace ringweave::device::simulated
