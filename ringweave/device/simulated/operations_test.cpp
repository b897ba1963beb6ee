// torch's operations give the same numbers on the device as on the CPU.
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <ATen/DeviceAccelerator.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::HasSubstr;
using testing::IsEmpty;
using Tensors = std::vector<Tensor>;

/// What to do with inputs(), which are all on one device.
struct Example {
  const char* name;
  std::function<Tensor(const Tensors&)> run;
};
std::ostream& operator<<(std::ostream& out, const Example& example) {
  return out << example.name;
}

Tensors inputs() {
  at::manual_seed(1);
  return {at::randn({6, 8}), at::randn({8, 5}), at::randn({6, 8}),
          at::randn({3, 6, 8}), at::randn({3, 8, 4})};
}

Tensor two_rows() { return at::tensor({4, 1}, at::kLong); }

Tensor slices(const Tensors& x) {
  Tensor y = x[0].clone();
  y.slice(1, 2, 5).add_(1);
  y.select(0, 1).zero_();
  return y.slice(0, 1, 4);
}

Tensor index_writes(const Tensors& x) {
  const Tensor rows = two_rows().to(x[0].device());
  Tensor y = x[0].clone();
  y.index_put_({rows}, x[2].slice(0, 0, 2));
  return y.index_add_(0, rows, x[2].slice(0, 1, 3));
}

Tensor out_of_another_shape(const Tensors& x) {
  Tensor out = at::empty({0}, x[0].options());
  at::mm_out(out, x[0], x[1]);
  return out;
}

Tensor resized_and_set(const Tensors& x) {
  Tensor y = x[0].clone();
  Tensor z = at::empty({0}, y.options());
  y.resize_({4, 8});
  z.set_(y);
  return z.clone();
}

Tensor view_of_view(const Tensors& x) {
  return x[3]
      .transpose(0, 1)
      .reshape({6, 24})
      .unfold(1, 4, 2)
      .as_strided({4, 3}, {6, 1}, 2)
      .contiguous();
}

Tensor types(const Tensors& x) {
  return x[0].view(at::kInt).to(at::kDouble).to(at::kBFloat16).to(at::kFloat);
}

Tensor chosen(const Tensors& x) {
  const Tensor sorted = std::get<0>(x[0].sort(1));
  const Tensor largest = std::get<0>(x[2].max(1, true));
  return at::where(x[0] > 0, sorted, largest + std::get<0>(x[0].topk(8, 1)));
}

Tensor for_each(const Tensors& x) {
  Tensors y = {x[0].clone(), x[2].clone()};
  at::_foreach_mul_(y, 2.0);
  return at::_foreach_add(y, y)[1] + y[0];
}

Tensor layers(const Tensors& x) {
  const Tensor normed = at::gelu(at::layer_norm(x[0], {8}));
  const Tensor sums = x[2].logsumexp(1, true).expand({6, 8});
  return at::einsum("ij,kj->ik", {normed, sums});
}

Tensor attention(const Tensors& x) {
  const Tensor q = x[3].unsqueeze(0);
  return at::scaled_dot_product_attention(q, q, q);
}

Tensor conjugate(const Tensors& x) {
  const Tensor z = at::complex(x[0], x[2]);
  return at::view_as_real(z.conj().clone()).add(at::imag(z.conj()).sum());
}

const std::vector<Example>& examples() {
  static const auto* const all = new std::vector<Example>{
      {"mm", [](auto& x) { return at::mm(x[0], x[1]); }},
      {"bmm", [](auto& x) { return at::bmm(x[3], x[4]); }},
      {"softmax", [](auto& x) { return x[0].softmax(1); }},
      {"add_", [](auto& x) { return x[0].clone().add_(x[2], 2); }},
      {"mul_", [](auto& x) { return x[0].clone().mul_(3).mul_(x[2]); }},
      {"slices", slices},
      {"index_select",
       [](auto& x) {
         return x[0].index_select(0, two_rows().to(x[0].device()));
       }},
      {"indices on the CPU",
       [](auto& x) { return at::index(x[0], {two_rows()}); }},
      {"index_put_, index_add_", index_writes},
      {"cat, stack, unbind",
       [](auto& x) {
         const Tensor stacked = at::stack(x[3].unbind(0), 1);
         return at::cat({stacked.select(1, 2), x[2].slice(0, 1, 3)});
       }},
      {"out= of another shape", out_of_another_shape},
      {"resize_, set_", resized_and_set},
      {"reshape, unfold, as_strided", view_of_view},
      {"view and to another type", types},
      {"sort, topk, max, where", chosen},
      {"nonzero, masked_select",
       [](auto& x) {
         return x[0].masked_select(x[0] > 0) + (x[0] > 0).nonzero().size(0);
       }},
      {"foreach", for_each},
      {"layer_norm, gelu, einsum", layers},
      {"scaled_dot_product_attention", attention},
      {"conj", conjugate}};
  return *all;
}

class Operations : public testing::TestWithParam<Example> {};

TEST_P(Operations, GiveTheNumbersOfTheCpu) {
  settle();
  Tensors on_device;
  for (const Tensor& input : inputs()) on_device.push_back(input.to(device(3)));
  const Tensor got = GetParam().run(on_device);
  EXPECT_EQ(got.device(), device(3));
  EXPECT_TRUE(at::allclose(got.cpu(), GetParam().run(inputs())));
  EXPECT_THAT(take_reports(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, Operations, testing::ValuesIn(examples()));

TEST(Device, IsTheAcceleratorOfThisProgram) {
  EXPECT_EQ(at::getAccelerator(), kType);
  EXPECT_EQ(at::accelerator::deviceCount(), kDevices);
  EXPECT_EQ(c10::Device("sim:5"), device(5));
  EXPECT_THROW(at::zeros({1}, device(kDevices)), c10::Error);
}

TEST(Device, HasRandomNumbersOfItsOwn) {
  const auto seeded = [] {
    at::manual_seed(5);
    return at::randn({4}, device(7));
  };
  EXPECT_TRUE(at::equal(seeded(), seeded()));
  EXPECT_EQ(at::zeros({4}, device(7)).sum().item<float>(), 0);
}

TEST(Device, CopiesBetweenDevicesAndTheCpu) {
  settle();
  const Tensor x = inputs()[0];
  Tensor far = at::empty({6, 8}, device(5));
  Tensor back = at::empty({6, 8});
  far.copy_(x.to(device(1)).to(device(2)).t().t());
  back.copy_(far);
  EXPECT_TRUE(at::equal(back, x));
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST(Device, RefusesTensorsOfTwoDevices) {
  try {
    at::cat({at::zeros({2}, device(0)), at::zeros({2}, device(1))});
    FAIL() << "took them";
  } catch (const c10::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("same device"));
  }
}

/// A few thousand operations on one tensor leave a few accesses to compare
/// with, so that the last ones take no longer than the first.
TEST(Device, CompletesAWorkloadOfManySmallOperations) {
  settle();
  Tensor x = at::zeros({64}, device(0));
  for (int i = 0; i < 5000; ++i) x.add_(1);
  EXPECT_EQ(x[63].item<float>(), 5000);
  EXPECT_THAT(take_reports(), IsEmpty());
}

}  // namespace
}  // namespace ringweave::device::simulated
