#include <ostream>

#include "ringweave/device/simulated/test_attention.h"
#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::IsEmpty;

struct FlashCase {
  std::int64_t heads, kv_heads, rows, keys;
  bool causal = false;
  std::int64_t left = -1;
  std::int64_t right = -1;
  at::ScalarType type = at::kHalf;

  bool sees(std::int64_t row, std::int64_t key) const {
    const std::int64_t own = row + keys - rows;
    if (left >= 0 && key < own - left) return false;
    if (causal) return key <= own;
    return right < 0 || key <= own + right;
  }
};
std::ostream& operator<<(std::ostream& out, const FlashCase& each) {
  return out << each.heads << "/" << each.kv_heads << " heads, " << each.rows
             << " × " << each.keys << ", window " << each.left << " "
             << each.right << (each.causal ? ", causal " : " ") << each.type;
}

/// From (batch, heads, length, head_dim) on the CPU to (batch, length, heads,
/// head_dim) on the device, and back.
Tensor to_flash(const Tensor& tensor, at::ScalarType type) {
  return tensor.detach().to(type).transpose(1, 2).contiguous().to(device(0));
}
Tensor from_flash(const Tensor& tensor) {
  return tensor.cpu().to(at::kDouble).transpose(1, 2);
}

struct FlashInputs {
  FlashInputs(const Reference& reference, at::ScalarType type)
      : q(to_flash(reference.q, type)),
        k(to_flash(reference.k, type)),
        v(to_flash(reference.v, type)),
        grad_out(to_flash(reference.grad_out, type)) {}

  auto forward(bool causal = false, std::int64_t left = -1,
               std::int64_t right = -1) const {
    return at::_flash_attention_forward(q, k, v, {}, {}, q.size(1), k.size(1),
                                        0.0, causal, false, {}, left, right);
  }
  auto backward(const Tensor& out, const Tensor& lse, bool causal = false,
                std::int64_t left = -1, std::int64_t right = -1) const {
    return at::_flash_attention_backward(
        grad_out, q, k, v, out, lse, Tensor(), Tensor(), q.size(1), k.size(1),
        0.0, causal, Tensor(), Tensor(), {}, left, right);
  }

  Tensor q, k, v, grad_out;
};

Reference small(std::int64_t heads, std::int64_t kv_heads, std::int64_t rows,
                std::int64_t keys, at::ScalarType type = at::kHalf) {
  return {{2, heads, rows, 16}, {2, kv_heads, keys, 16}, type};
}

class FlashAttentionMasks : public testing::TestWithParam<FlashCase> {
 protected:
  FlashAttentionMasks() { settle(); }
};

TEST_P(FlashAttentionMasks, IsThatOfTheFormula) {
  const FlashCase each = GetParam();
  Reference want =
      small(each.heads, each.kv_heads, each.rows, each.keys, each.type);
  want.run(mask_of(each.rows, each.keys,
                   [&](auto row, auto key) { return each.sees(row, key); }));
  const FlashInputs inputs(want, each.type);
  const double tolerance = tolerance_of(each.type);

  const auto [out, lse, rng, unused, mask] =
      inputs.forward(each.causal, each.left, each.right);
  EXPECT_EQ(out.scalar_type(), each.type);
  EXPECT_TRUE(out.is_contiguous());
  EXPECT_EQ(out.device(), device(0));
  EXPECT_EQ(lse.scalar_type(), at::kFloat);
  expect_near("out", from_flash(out), want.out, tolerance);
  expect_near("lse", lse, want.lse, 1e-5);

  const auto [dq, dk, dv] =
      inputs.backward(out, lse, each.causal, each.left, each.right);
  EXPECT_EQ(dq.scalar_type(), each.type);
  expect_near("dq", from_flash(dq), want.q.grad(), tolerance);
  expect_near("dk", from_flash(dk), want.k.grad(), tolerance);
  expect_near("dv", from_flash(dv), want.v.grad(), tolerance);
  EXPECT_THAT(take_reports(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    All, FlashAttentionMasks,
    testing::Values(FlashCase{4, 4, 7, 7}, FlashCase{4, 2, 7, 11},
                    FlashCase{6, 1, 5, 9, true},
                    FlashCase{2, 2, 8, 8, true, -1, -1, at::kBFloat16},
                    FlashCase{2, 2, 9, 9, true, 3},
                    FlashCase{4, 2, 6, 10, false, 2, 1},
                    FlashCase{2, 1, 6, 10, false, -1, 2},
                    FlashCase{2, 2, 6, 10, false, 1, -1, at::kBFloat16},
                    FlashCase{2, 2, 1, 5, true}));

TEST(FlashAttention, GivesRowsWithoutKeysNothingAndAnInfiniteLse) {
  Reference want = small(2, 2, 4, 4);
  want.run(mask_of(4, 4, [](auto row, auto key) { return key <= row; }));
  FlashInputs inputs(want, at::kHalf);
  // Three rows more, before those that see any key.
  inputs.q = at::cat({at::ones_like(inputs.q).narrow(1, 0, 3), inputs.q}, 1);
  inputs.grad_out = at::cat(
      {at::ones_like(inputs.grad_out).narrow(1, 0, 3), inputs.grad_out}, 1);
  const auto [out, lse, rng, unused, mask] = inputs.forward(true);
  EXPECT_TRUE(out.narrow(1, 0, 3).eq(0).all().item<bool>());
  EXPECT_TRUE(lse.narrow(2, 0, 3).isposinf().all().item<bool>());
  expect_near("out", from_flash(out.narrow(1, 3, 4)), want.out, 2e-3);
  const auto [dq, dk, dv] = inputs.backward(out, lse, true);
  EXPECT_TRUE(dq.narrow(1, 0, 3).eq(0).all().item<bool>());
  expect_near("dq", from_flash(dq.narrow(1, 3, 4)), want.q.grad(), 2e-3);
  expect_near("dk", from_flash(dk), want.k.grad(), 2e-3);
  expect_near("dv", from_flash(dv), want.v.grad(), 2e-3);
}

TEST(FlashAttention, GoesBackThroughSomeOfTheKeys) {
  Reference want = small(4, 2, 6, 10);
  want.run(at::zeros({6, 10}, at::kDouble));
  const FlashInputs all(want, at::kHalf);
  const auto [out, lse, rng, unused, mask] = all.forward();
  Tensor dq = at::zeros_like(want.q.grad());
  for (const auto& [first, count] : {std::pair{0, 3}, std::pair{3, 7}}) {
    FlashInputs part = all;
    part.k = all.k.narrow(1, first, count);
    part.v = all.v.narrow(1, first, count);
    const auto [dq_part, dk, dv] = part.backward(out, lse);
    dq += from_flash(dq_part);
    expect_near("dk", from_flash(dk), want.k.grad().narrow(2, first, count),
                2e-3);
    expect_near("dv", from_flash(dv), want.v.grad().narrow(2, first, count),
                2e-3);
  }
  expect_near("dq", dq, want.q.grad(), 2e-3);
}

TEST(FlashAttention, HasTheLayoutAndTheGradientsOfScaledDotProduct) {
  Reference want = small(4, 2, 5, 9);
  want.run(mask_of(5, 9, [](auto row, auto key) { return key <= row + 4; }));
  const auto on_device = [](const Tensor& tensor) {
    return tensor.detach().to(at::kHalf).to(device(0)).requires_grad_();
  };
  const Tensor q = on_device(want.q);
  const Tensor k = on_device(want.k);
  const Tensor v = on_device(want.v);
  settle();
  const auto results =
      at::_scaled_dot_product_flash_attention(q, k, v, 0.0, true);
  const Tensor& out = std::get<0>(results);
  EXPECT_TRUE(out.transpose(1, 2).is_contiguous());
  EXPECT_FALSE(std::get<2>(results).defined());
  EXPECT_EQ(std::get<4>(results), 5);
  EXPECT_EQ(std::get<5>(results), 9);
  expect_near("out", out.detach(), want.out, 2e-3);
  expect_near("lse", std::get<1>(results), want.lse, 1e-5);
  out.backward(on_device(want.grad_out).detach());
  expect_near("dq", q.grad(), want.q.grad(), 2e-3);
  expect_near("dk", k.grad(), want.k.grad(), 2e-3);
  expect_near("dv", v.grad(), want.v.grad(), 2e-3);
  EXPECT_THAT(take_reports(), IsEmpty());
}

class FlashAttentionErrors : public testing::Test {
 protected:
  static Tensor half(at::IntArrayRef sizes) {
    return at::zeros(sizes, at::TensorOptions(device(0)).dtype(at::kHalf));
  }
  static void expect_error(const Tensor& q, const Tensor& k) {
    EXPECT_THROW(at::_flash_attention_forward(q, k, k, {}, {}, q.size(1),
                                              k.size(1), 0.0, false, false),
                 c10::Error)
        << q.sizes() << " " << k.sizes() << " " << q.scalar_type();
  }
};

TEST_F(FlashAttentionErrors, NameWhatItCanNotDo) {
  const Tensor good = half({1, 4, 2, 16});
  expect_error(good.to(at::kFloat), good.to(at::kFloat));
  expect_error(good.to(at::kDouble), good.to(at::kDouble));
  expect_error(good, good.to(at::kBFloat16));
  expect_error(half({1, 4, 2, 12}), half({1, 4, 2, 12}));
  expect_error(half({1, 4, 2, 264}), half({1, 4, 2, 264}));
  expect_error(half({1, 4, 16, 8}).transpose(2, 3), half({1, 4, 8, 16}));
  expect_error(half({1, 4, 3, 16}), good);
  expect_error(half({2, 4, 2, 16}), good);
}

TEST_F(FlashAttentionErrors, NameAnLseOfOtherSizes) {
  const Tensor q = half({1, 4, 2, 16});
  const auto backward = [&](const Tensor& lse) {
    at::_flash_attention_backward(q, q, q, q, q, lse, Tensor(), Tensor(), 4, 4,
                                  0.0, false, Tensor(), Tensor());
  };
  const Tensor lse = at::zeros({1, 2, 4}, device(0));
  EXPECT_NO_THROW(backward(lse));
  EXPECT_THROW(backward(at::zeros({1, 2, 32}, device(0))), c10::Error);
  EXPECT_THROW(backward(lse.to(at::kHalf)), c10::Error);
}

class FlashAttentionOrder : public TwoStreams {
 protected:
  FlashInputs inputs{small(2, 2, 4, 4), at::kHalf};
};

TEST_F(FlashAttentionOrder, IsThatOfItsInputs) {
  settle();
  on(a, [&] { inputs.k.fill_(1); });
  on(b, [&] { inputs.forward(); });
  const auto reports = take_reports();
  ASSERT_THAT(reports, is_one("read-after-write"));
  EXPECT_THAT(reports[0].now,
              testing::StartsWith("aten::_flash_attention_forward@sim:0/s"));
}

TEST_F(FlashAttentionOrder, IsThatOfItsResults) {
  settle();
  const auto forward = [&] { return std::get<0>(inputs.forward()); };
  Tensor out;
  on(b, [&] { out = forward(); });
  on(a, [&] { out.sum(); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
}

TEST_F(FlashAttentionOrder, IsThatOfBackwardsInputs) {
  const auto results = inputs.forward();
  settle();
  on(a, [&] { std::get<1>(results).fill_(1); });
  on(b, [&] { inputs.backward(std::get<0>(results), std::get<1>(results)); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
}

}  // namespace
}  // namespace ringweave::device::simulated
