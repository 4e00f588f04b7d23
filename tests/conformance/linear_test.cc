// Products with weights: linear and the fused operations around it.
#include "conformance/op_test.h"

namespace vl2::conformance {
namespace {

class LinearOps : public OpTest {
 protected:
  struct Layer {
    Linear tested, expected;
    double row_norm = 0;  // largest of the stored rows
  };
  Layer layer(DType dtype, int64_t out, int64_t in, bool bias) {
    const Stored w(dtype, {out, in}, random_, 0.5f);
    Layer result{{ops_->pack(w.view(), WeightUse::kLinear), {}}, {reference_->pack(w.view(), WeightUse::kLinear), {}}};
    for (int64_t r = 0; r < out; ++r) result.row_norm = std::max(result.row_norm, norm(&w.values[r * in], in));
    if (bias) {
      const Stored b(dtype, {out}, random_, 0.5f);
      result.tested.bias = ops_->pack(b.view(), WeightUse::kVector);
      result.expected.bias = reference_->pack(b.view(), WeightUse::kVector);
    }
    return result;
  }
  static double longest(const Rows& x) {
    double result = 0;
    for (int64_t r = 0; r < x.rows(); ++r) result = std::max(result, norm(x.row(r), x.cols()));
    return result;
  }
};

struct Size {
  int64_t rows, in, out;
};
// One row; fewer and more than any tile; depths and widths that are no multiple of 2, 16 or 32; many row groups.
constexpr Size kSizes[] = {{1, 1, 1},    {1, 7, 5},      {1, 64, 48},   {2, 33, 17},     {3, 31, 16},   {5, 66, 33},
                           {12, 32, 64}, {13, 100, 31},  {16, 95, 100}, {31, 130, 65},   {33, 257, 49}, {48, 64, 16},
                           {65, 72, 80}, {97, 1153, 19}, {130, 40, 7},  {200, 129, 144}, {1, 2050, 70}, {37, 576, 113}};

TEST_P(LinearOps, LinearMatchesTheReference) {
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (bool bias : {false, true})
      for (const Size& size : kSizes) {
        const Layer w = layer(dtype, size.out, size.in, bias);
        Rows x = Rows::random(size.rows, size.in, random_), y(size.rows, size.out), expected(size.rows, size.out);
        ops_->linear(y.tensor(), x.tensor(), w.tested);
        reference_->linear(expected.tensor(), x.tensor(), w.expected);
        expect_near(y, expected, product_tolerance(size.in, w.row_norm, longest(x)) + 1e-7,
                    fmt::format("{} {} x {} -> {}", dtype_name(dtype), size.rows, size.in, size.out));
      }
}

TEST_P(LinearOps, ARowsBitsDoNotDependOnItsNeighbours) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Layer w = layer(dtype, 83, 197, true);
    Rows x = Rows::random(131, 197, random_), together(131, 83), alone(131, 83);
    ops_->linear(together.tensor(), x.tensor(), w.tested);
    for (int64_t begin = 0, count = 1; begin < x.rows(); begin += count, count = std::min(count + 3, x.rows() - begin))
      ops_->linear(alone.tensor().row_range(begin, count), x.tensor().row_range(begin, count), w.tested);
    expect_same_rows(together, alone, 2 * product_tolerance(197, w.row_norm, longest(x)),
                     std::string(dtype_name(dtype)));
  }
}

TEST_P(LinearOps, LinearAddIsLinearThenAdd) {
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (const Size& size : kSizes) {
      const Layer w = layer(dtype, size.out, size.in, true);
      Rows x = Rows::random(size.rows, size.in, random_), start = Rows::random(size.rows, size.out, random_);
      Rows fused = start, plain = start, product(size.rows, size.out);
      ops_->linear_add(fused.tensor(), x.tensor(), w.tested);
      ops_->linear(product.tensor(), x.tensor(), w.tested);
      ops_->add(plain.tensor(), product.tensor());
      // The bias may be added before or after the residual.
      expect_near(fused, plain, 1e-5, fmt::format("{} x {} -> {}", size.rows, size.in, size.out));
    }
}

TEST_P(LinearOps, LinearGeluIsLinearThenGelu) {
  for (GeluKind kind : {GeluKind::kTanh, GeluKind::kErf})
    for (const Size& size : kSizes) {
      const Layer w = layer(DType::kBF16, size.out, size.in, true);
      Rows x = Rows::random(size.rows, size.in, random_), fused(size.rows, size.out), plain(size.rows, size.out);
      ops_->linear_gelu(fused.tensor(), x.tensor(), w.tested, kind);
      ops_->linear(plain.tensor(), x.tensor(), w.tested);
      ops_->gelu(plain.tensor(), kind);
      expect_same_rows(fused, plain, 4 * product_tolerance(size.in, w.row_norm, longest(x)) + 1e-6,
                       fmt::format("{} x {} -> {}", size.rows, size.in, size.out));
    }
}

TEST_P(LinearOps, SwigluIsItsParts) {
  for (const Size& size : kSizes) {
    const int64_t inner = size.out + 13;
    const Layer gate = layer(DType::kBF16, inner, size.in, false), up = layer(DType::kBF16, inner, size.in, false),
                down = layer(DType::kBF16, size.out, inner, false);
    Rows x = Rows::random(size.rows, size.in, random_, 0.3f), fused(size.rows, size.out), plain(size.rows, size.out);
    Rows g(size.rows, inner), u(size.rows, inner);
    ops_->swiglu(fused.tensor(), x.tensor(), {gate.tested, up.tested, down.tested});
    ops_->linear(g.tensor(), x.tensor(), gate.tested);
    ops_->linear(u.tensor(), x.tensor(), up.tested);
    ops_->silu_mul(g.tensor(), u.tensor());
    ops_->linear(plain.tensor(), g.tensor(), down.tested);
    // Hidden values are products of two sums in error each; what they are multiplied with adds up.
    const double inner_error = 2 * product_tolerance(size.in, std::max(gate.row_norm, up.row_norm), longest(x));
    expect_same_rows(fused, plain,
                     2 * inner_error * (1 + largest_value(g) + largest_value(u)) * down.row_norm +
                         2 * product_tolerance(inner, down.row_norm, longest(g)) + 1e-6,
                     fmt::format("{} x {} -> {}", size.rows, size.in, size.out));
  }
}

TEST_P(LinearOps, LinearEachIsOneLinearAfterTheOther) {
  for (const Size& size : kSizes) {
    // The middle one is stored in another form, where a backend may have to start anew.
    const Layer ws[] = {layer(DType::kBF16, size.out, size.in, true), layer(DType::kF32, size.out + 5, size.in, false),
                        layer(DType::kF32, 3, size.in, true)};
    Rows x = Rows::random(size.rows, size.in, random_);
    std::vector<Rows> together, apart;
    std::vector<Tensor> outs;
    std::vector<const Linear*> linears;
    for (const Layer& w : ws) {
      together.emplace_back(size.rows, w.tested.weight.out);
      apart.emplace_back(size.rows, w.tested.weight.out);
    }
    for (size_t i = 0; i < 3; ++i) {
      outs.push_back(together[i].tensor());
      linears.push_back(&ws[i].tested);
      ops_->linear(apart[i].tensor(), x.tensor(), ws[i].tested);
    }
    ops_->linear_each(outs, x.tensor(), linears);
    for (size_t i = 0; i < 3; ++i)
      expect_same_rows(together[i], apart[i], 2 * product_tolerance(size.in, ws[i].row_norm, longest(x)) + 1e-6,
                       fmt::format("{} x {} -> {}, {}", size.rows, size.in, size.out, i));
  }
}

VL2_FOR_EVERY_BACKEND(LinearOps);

}  // namespace
}  // namespace vl2::conformance
