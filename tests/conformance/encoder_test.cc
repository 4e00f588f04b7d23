// The halves of a vision encoder's block.
#include "conformance/op_test.h"

namespace vl2::conformance {
namespace {

struct Block {
  int64_t items, tokens, heads, size, hidden;
  int64_t width() const { return heads * size; }
  int64_t rows() const { return items * tokens; }
  std::string text() const {
    return fmt::format("{} x {} tokens, {} heads of {}, {}", items, tokens, heads, size, hidden);
  }
};

// Sizes of no kernel's tiles, and those that a backend may have a fast path for.
const std::vector<Block> kBlocks = {{1, 1, 1, 3, 5},    {2, 5, 3, 7, 11},    {1, 16, 2, 8, 24},   {3, 49, 2, 72, 152},
                                    {1, 100, 4, 16, 8}, {2, 65, 1, 40, 104}, {1, 130, 3, 64, 88}, {1, 70, 1, 128, 256}};

class EncoderOps : public OpTest {
 protected:
  Linear linear(Ops& ops, const Stored& w, const Stored& b) {
    return {ops.pack(w.view(), WeightUse::kLinear), ops.pack(b.view(), WeightUse::kVector)};
  }
  Stored weight(DType type, int64_t out, int64_t in) {
    return Stored(type, {out, in}, random_, static_cast<float>(1.5 / std::sqrt(static_cast<double>(in))));
  }
  Stored vector(DType type, int64_t n) { return Stored(type, {n}, random_, 0.5f); }

  // What x got, in relation to what it should have got.
  static double error(Rows before, Rows actual, Rows expected) {
    for (int64_t r = 0; r < before.rows(); ++r)
      for (int64_t c = 0; c < before.cols(); ++c) {
        actual.row(r)[c] -= expected.row(r)[c];
        expected.row(r)[c] -= before.row(r)[c];
      }
    double off = 0, all = 0;
    for (int64_t r = 0; r < before.rows(); ++r)
      off += std::pow(norm(actual.row(r), before.cols()), 2), all += std::pow(norm(expected.row(r), before.cols()), 2);
    return std::sqrt(off / all);
  }
  // Three roundings to bfloat16 between x and what is added to it, of 2^-9 at most each, but spread.
  double tolerance() const { return rounds_activations() ? 0.012 : 2e-5; }

  template <typename Run>
  void expect_like_reference(const Block& b, const Run& run) {
    for (DType type : {DType::kBF16, DType::kF32}) {
      const Rows x = Rows::random(b.rows(), b.width(), random_, 2.0f);
      Rows actual = x, expected = x;
      run(type, actual, expected);
      EXPECT_LE(error(x, actual, expected), tolerance()) << b.text() << ", " << dtype_name(type);
    }
  }
};

TEST_P(EncoderOps, NormAttentionAddMatchesTheReference) {
  for (const Block& b : kBlocks)
    expect_like_reference(b, [&](DType type, Rows& actual, Rows& expected) {
      const Stored scale = vector(type, b.width()), shift = vector(type, b.width());
      const Stored qkv = weight(type, 3 * b.width(), b.width()), qkv_bias = vector(type, 3 * b.width());
      const Stored proj = weight(type, b.width(), b.width()), proj_bias = vector(type, b.width());
      for (auto [ops, x] : {std::pair{ops_.get(), &actual}, {reference_.get(), &expected}})
        ops->norm_attention_add(
            x->tensor(),
            {ops->pack(scale.view(), WeightUse::kVector), ops->pack(shift.view(), WeightUse::kVector), 1e-6f},
            linear(*ops, qkv, qkv_bias), linear(*ops, proj, proj_bias), b.heads, b.tokens);
    });
}

TEST_P(EncoderOps, NormMlpAddMatchesTheReference) {
  for (const GeluKind kind : {GeluKind::kTanh, GeluKind::kErf})
    for (const Block& b : kBlocks)
      expect_like_reference(b, [&](DType type, Rows& actual, Rows& expected) {
        const Stored scale = vector(type, b.width()), shift = vector(type, b.width());
        const Stored fc1 = weight(type, b.hidden, b.width()), fc1_bias = vector(type, b.hidden);
        const Stored fc2 = weight(type, b.width(), b.hidden), fc2_bias = vector(type, b.width());
        for (auto [ops, x] : {std::pair{ops_.get(), &actual}, {reference_.get(), &expected}})
          ops->norm_mlp_add(
              x->tensor(),
              {ops->pack(scale.view(), WeightUse::kVector), ops->pack(shift.view(), WeightUse::kVector), 1e-6f},
              linear(*ops, fc1, fc1_bias), kind, linear(*ops, fc2, fc2_bias));
      });
}

VL2_FOR_EVERY_BACKEND(EncoderOps);

}  // namespace
}  // namespace vl2::conformance
