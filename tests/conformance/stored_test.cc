// Matrices stored as kernels read them: bf16, q8 and q4 panels. The reference multiplies what the codes mean.
#include <algorithm>
#include <cstring>

#include "conformance/op_test.h"
#include "core/quant/panel_format.h"

namespace vl2::conformance {
namespace {

// A matrix, or several one after the other, in panels of a format.
struct StoredPanels {
  PanelMatrix matrix;
  std::shared_ptr<const std::byte> owner;
  double row_norm = 0;  // largest of the rows, as stored
};

class StoredOps : public OpTest {
 protected:
  StoredPanels store(PanelFormat format, int64_t rows, int64_t cols, int64_t count = 1, float scale = 0.5f) {
    const int64_t bytes = matrix_bytes(format, rows, cols);
    std::shared_ptr<std::byte> memory(
        static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(bytes * count))),
        [](std::byte* p) { std::free(p); });
    StoredPanels result{{format, rows, cols, memory.get()}, memory};
    std::vector<float> w(static_cast<size_t>(kPanelRows * cols)), row(static_cast<size_t>(cols));
    for (int64_t i = 0; i < count; ++i) {
      const PanelMatrix one{format, rows, cols, memory.get() + i * bytes};
      for (int64_t r = 0; r < rows; r += kPanelRows) {
        for (float& x : w) x = scale * random_.normal();
        encode_panel(format, w.data(), cols, std::min(kPanelRows, rows - r), cols, nullptr,
                     memory.get() + i * bytes + r / kPanelRows * panel_bytes(format, cols));
      }
      for (int64_t r = 0; r < rows; ++r) {
        decode_row(one, r, row.data());
        result.row_norm = std::max(result.row_norm, norm(row.data(), cols));
      }
    }
    return result;
  }
  Linear tested(const StoredPanels& w) { return {ops_->adopt(w.matrix, w.owner), {}}; }
  Linear expected(const StoredPanels& w) { return {reference_->adopt(w.matrix, w.owner), {}}; }

  // Codes are multiplied by activations rounded to 255 steps over a group: each is off by at most half a step, all
  // alike and independently. Six standard deviations.
  double tolerance(const StoredPanels& w, double largest, double x_norm) const {
    const double rounding =
        w.matrix.format == PanelFormat::kBf16 ? 0 : 6 * w.row_norm * largest / 127 / std::sqrt(12.0);
    return product_tolerance(w.matrix.cols, w.row_norm, x_norm) + rounding + 1e-7;
  }
  static double longest(const Rows& x) {
    double result = 0;
    for (int64_t r = 0; r < x.rows(); ++r) result = std::max(result, norm(x.row(r), x.cols()));
    return result;
  }
};

constexpr PanelFormat kFormats[] = {PanelFormat::kBf16, PanelFormat::kQ8, PanelFormat::kQ4};

struct Size {
  int64_t rows, in, out;
};
// Every number of rows a block can hold, depths around the padding and the group, widths around a panel.
constexpr Size kSizes[] = {{1, 1, 1},     {1, 7, 5},     {1, 64, 48},   {1, 128, 16},   {1, 129, 130}, {1, 2050, 150},
                           {2, 63, 17},   {3, 127, 16},  {4, 192, 33},  {5, 66, 47},    {6, 320, 64},  {7, 65, 31},
                           {8, 100, 100}, {9, 588, 40},  {10, 257, 49}, {11, 64, 16},   {12, 576, 80}, {13, 130, 33},
                           {17, 128, 7},  {31, 448, 65}, {33, 191, 48}, {97, 1153, 19}, {130, 40, 50}, {200, 129, 35}};

TEST_P(StoredOps, LinearMatchesTheReference) {
  for (const PanelFormat format : kFormats)
    for (const Size& size : kSizes) {
      const StoredPanels w = store(format, size.out, size.in);
      Rows x = Rows::random(size.rows, size.in, random_), y(size.rows, size.out), correct(size.rows, size.out);
      ops_->linear(y.tensor(), x.tensor(), tested(w));
      reference_->linear(correct.tensor(), x.tensor(), expected(w));
      expect_near(y, correct, tolerance(w, largest_value(x), longest(x)),
                  fmt::format("{} {} x {} -> {}", panel_format_name(format), size.rows, size.in, size.out));
    }
}

// Whole numbers up to 127, with 127 in every group, are rounded to themselves: what is left is float32's own error.
TEST_P(StoredOps, NothingIsLostWhereActivationsAreWholeNumbers) {
  for (const PanelFormat format : {PanelFormat::kQ8, PanelFormat::kQ4})
    for (const Size& size : kSizes) {
      const StoredPanels w = store(format, size.out, size.in);
      Rows x(size.rows, size.in), y(size.rows, size.out), correct(size.rows, size.out);
      for (int64_t r = 0; r < size.rows; ++r)
        for (int64_t k = 0; k < size.in; ++k)
          x.row(r)[k] = k % kQuantGroup == 0 ? 127.0f : static_cast<float>(random_.below(255) - 127);
      ops_->linear(y.tensor(), x.tensor(), tested(w));
      reference_->linear(correct.tensor(), x.tensor(), expected(w));
      // Where codes are widened to bf16 for a library's product, the weights are rounded instead.
      const bool widened = rounds_activations() && !same_bits();
      const double exact =
          widened ? product_tolerance(size.in, w.row_norm, longest(x)) : 4 * 0x1.0p-24 * w.row_norm * longest(x) + 1e-7;
      expect_near(y, correct, exact,
                  fmt::format("{} {} x {} -> {}", panel_format_name(format), size.rows, size.in, size.out));
    }
}

// Where sums would leave a narrow register first: every code and every activation at an end of its range.
TEST_P(StoredOps, NothingOverflowsWhereEveryProductIsTheGreatest) {
  constexpr int64_t kIn = 320, kOut = 48;
  for (const PanelFormat format : {PanelFormat::kQ8, PanelFormat::kQ4})
    for (const int code : {0x00, 0xff})
      for (const int64_t rows : {1, 2, 3, 4, 5, 8, 13, 60}) {
        StoredPanels w = store(format, kOut, kIn);
        auto* memory = const_cast<std::byte*>(w.owner.get());
        const int64_t bytes = panel_bytes(format, kIn), scales = quant_scale_bytes(kIn);
        for (int64_t panel = 0; panel < kOut / kPanelRows; ++panel)
          std::memset(memory + panel * bytes + scales, code, static_cast<size_t>(bytes - scales));
        std::vector<float> row(kIn);
        w.row_norm = 0;
        for (int64_t r = 0; r < kOut; ++r) {
          decode_row(w.matrix, r, row.data());
          w.row_norm = std::max(w.row_norm, norm(row.data(), kIn));
        }
        Rows x(rows, kIn), y(rows, kOut), correct(rows, kOut);
        for (int64_t r = 0; r < rows; ++r) std::fill_n(x.row(r), kIn, r % 2 == 0 ? 127.0f : -127.0f);
        ops_->linear(y.tensor(), x.tensor(), tested(w));
        reference_->linear(correct.tensor(), x.tensor(), expected(w));
        // All weights of a row are the same number, and so is what rounding it to bf16 loses, where that is done; there
        // the sum may be rounded, too.
        const bool widened = rounds_activations() && !same_bits();
        const double exact = (widened ? 2 * 0x1.0p-9 : 4 * 0x1.0p-24) * w.row_norm * longest(x) + 1e-7;
        expect_near(y, correct, exact, fmt::format("{} {:#04x}, {} rows", panel_format_name(format), code, rows));
      }
}

TEST_P(StoredOps, ARowsBitsDoNotDependOnItsNeighbours) {
  for (const PanelFormat format : kFormats) {
    const StoredPanels w = store(format, 149, 331);
    const Linear linear = tested(w);
    Rows x = Rows::random(131, 331, random_), together(131, 149), alone(131, 149);
    ops_->linear(together.tensor(), x.tensor(), linear);
    for (int64_t begin = 0, count = 1; begin < x.rows(); begin += count, count = std::min(count + 1, x.rows() - begin))
      ops_->linear(alone.tensor().row_range(begin, count), x.tensor().row_range(begin, count), linear);
    expect_same_rows(together, alone, 2 * product_tolerance(331, w.row_norm, longest(x)),
                     std::string(panel_format_name(format)));
  }
}

TEST_P(StoredOps, ActivationsOfZeroTinyAndHugeSizeStayFinite) {
  const StoredPanels w = store(PanelFormat::kQ4, 20, 200);
  Rows x(3, 200), y(3, 20), correct(3, 20);
  for (int64_t k = 0; k < 200; ++k) {
    x.row(1)[k] = 1e-41f;
    x.row(2)[k] = 1e30f * static_cast<float>(k % 3 - 1);
  }
  ops_->linear(y.tensor(), x.tensor(), tested(w));
  reference_->linear(correct.tensor(), x.tensor(), expected(w));
  for (int64_t c = 0; c < 20; ++c) {
    EXPECT_EQ(y.row(0)[c], 0.0f);
    EXPECT_NEAR(y.row(1)[c], 0.0f, 1e-37f);
    EXPECT_NEAR(y.row(2)[c], correct.row(2)[c], 1e30 * w.row_norm * 0.02);
  }
}

TEST_P(StoredOps, ActivationsThatAreNoNumbersAreNotHidden) {
  for (const PanelFormat format : {PanelFormat::kQ8, PanelFormat::kQ4})
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const StoredPanels w = store(format, 20, 300);
      Rows x = Rows::random(2, 300, random_), y(2, 20);
      x.row(0)[211] = bad;
      ops_->linear(y.tensor(), x.tensor(), tested(w));
      for (int64_t c = 0; c < 20; ++c) {
        EXPECT_FALSE(std::isfinite(y.row(0)[c]) && std::fabs(y.row(0)[c]) < 1e30f) << c;
        EXPECT_TRUE(std::isfinite(y.row(1)[c])) << c;
      }
    }
}

TEST_P(StoredOps, SwigluIsItsParts) {
  for (const PanelFormat format : kFormats)
    for (const Size& size : kSizes) {
      const int64_t inner = size.out + 13;
      const StoredPanels g = store(format, inner, size.in), u = store(format, inner, size.in),
                         d = store(PanelFormat::kQ8, size.out, inner);
      const GatedMlp mlp{tested(g), tested(u), tested(d)};
      Rows x = Rows::random(size.rows, size.in, random_, 0.3f), fused(size.rows, size.out), plain(size.rows, size.out);
      Rows gate(size.rows, inner), up(size.rows, inner);
      ops_->swiglu(fused.tensor(), x.tensor(), mlp);
      ops_->linear(gate.tensor(), x.tensor(), mlp.gate);
      ops_->linear(up.tensor(), x.tensor(), mlp.up);
      ops_->silu_mul(gate.tensor(), up.tensor());
      ops_->linear(plain.tensor(), gate.tensor(), mlp.down);
      const double inner_error = 2 * product_tolerance(size.in, std::max(g.row_norm, u.row_norm), longest(x));
      expect_same_rows(fused, plain,
                       2 * inner_error * (1 + largest_value(gate) + largest_value(up)) * d.row_norm +
                           2 * product_tolerance(inner, d.row_norm, longest(gate)) + 1e-6,
                       fmt::format("{} {} x {}", panel_format_name(format), size.rows, size.in));
    }
}

TEST_P(StoredOps, RoutedExpertsAreTheirPartsAndIgnoreNeighbours) {
  struct Case {
    int64_t tokens, width, inner, experts, top_k;
  };
  for (const PanelFormat format : kFormats)
    for (const Case& c : {Case{1, 33, 17, 4, 2}, Case{2, 64, 148, 8, 6}, Case{40, 200, 31, 6, 3},
                          Case{90, 72, 50, 3, 3}, Case{30, 65, 97, 64, 6}}) {
      ExpertWeights experts;
      for (int64_t e = 0; e < c.experts; ++e)
        experts.experts.push_back({tested(store(format, c.inner, c.width)), tested(store(format, c.inner, c.width)),
                                   tested(store(format, c.width, c.inner))});
      const Stored router(DType::kF32, {c.experts, c.width}, random_, 0.2f);
      const Weight gate = ops_->pack(router.view(), WeightUse::kRouter);
      RouterParams p;
      p.top_k = c.top_k;
      Rows x = Rows::random(c.tokens, c.width, random_, 0.5f), y(c.tokens, c.width), parts = y, alone = y;
      const Routing routing = ops_->route(x.tensor(), gate, {}, p);
      ops_->routed_experts(y.tensor(), x.tensor(), routing, experts);
      Rows one(1, c.width);
      for (int64_t t = 0; t < c.tokens; ++t) {
        for (int64_t i = t * c.top_k; i < (t + 1) * c.top_k; ++i) {
          const auto e = static_cast<size_t>(routing.expert[static_cast<size_t>(i)]);
          ops_->swiglu(one.tensor(), x.tensor().row_range(t, 1), experts.experts[e]);
          for (int64_t d = 0; d < c.width; ++d)
            parts.row(t)[d] += routing.weight[static_cast<size_t>(i)] * one.row(0)[d];
        }
        Tensor row = x.tensor().row_range(t, 1);
        ops_->routed_experts(alone.tensor().row_range(t, 1), row, ops_->route(row, gate, {}, p), experts);
      }
      const std::string what = fmt::format("{} {} tokens", panel_format_name(format), c.tokens);
      // Where kernels of few rows and of many add up in other orders, a hidden value may be rounded to its neighbour.
      const double order = same_bits() || !rounds_activations() ? 1e-5 : 0x1.0p-8;
      const double largest = std::max(1.0, largest_value(parts));
      expect_near(y, parts, order * largest, what);
      expect_same_rows(y, alone, order * largest, what + ", one at a time");
    }
}

// Prompts expand keys and values with W_UK and W_UV; answers absorb them, with a W_UK^T that was rounded on its own.
TEST_P(StoredOps, LatentAttentionMatchesTheReference) {
  const int64_t heads = 3, nope = 24, v = 20, rank = 72, rope = 8, tokens = 21, block = 16;
  for (const PanelFormat format : kFormats) {
    // The transposed matrices are encoded from what the first ones mean, so that only their own rounding differs.
    const StoredPanels uk = store(format, nope, rank, heads, 0.1f), uv = store(format, v, rank, heads, 0.1f);
    const int64_t bytes = matrix_bytes(format, rank, nope);
    std::shared_ptr<std::byte> memory(
        static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(bytes * heads))),
        [](std::byte* p) { std::free(p); });
    std::vector<float> row(static_cast<size_t>(rank)), t(static_cast<size_t>(rank * nope));
    for (int64_t h = 0; h < heads; ++h) {
      PanelMatrix one = uk.matrix;
      one.data += h * uk.matrix.num_bytes();
      for (int64_t n = 0; n < nope; ++n) {
        decode_row(one, n, row.data());
        for (int64_t r = 0; r < rank; ++r) t[static_cast<size_t>(r * nope + n)] = row[static_cast<size_t>(r)];
      }
      for (int64_t r = 0; r < rank; r += kPanelRows)
        encode_panel(format, t.data() + r * nope, nope, std::min(kPanelRows, rank - r), nope, nullptr,
                     memory.get() + h * bytes + r / kPanelRows * panel_bytes(format, nope));
    }
    const LatentPanels parts{uk.matrix, uv.matrix, {format, rank, nope, memory.get()}, heads};
    const auto owner = std::make_shared<std::vector<std::shared_ptr<const void>>>();
    *owner = {uk.owner, uv.owner, memory};
    const LatentWeights tested_w = ops_->adopt_latent(parts, owner), plain_w = reference_->adopt_latent(parts, owner);
    Rows q = Rows::random(tokens, heads * (nope + rope), random_, 0.5f), c = Rows::random(tokens, rank, random_, 0.5f),
         pe = Rows::random(tokens, rope, random_, 0.5f), y(tokens, heads * v), correct = y;
    const auto run = [&](Ops& ops, const LatentWeights& w, Rows& out) {
      const auto cache = ops.make_cache(1, 2, block, rank + rope);
      const std::vector<int32_t> blocks = {1, 0};
      for (const auto& [begin, count, decode] : {std::tuple{0, 13, false}, {13, 1, true}, {14, 7, true}}) {
        const SequenceSlice slice{0, count, begin, blocks, decode};
        ops.latent_attention(out.tensor().row_range(begin, count),
                             q.tensor().row_range(begin, count).split_heads(heads), c.tensor().row_range(begin, count),
                             pe.tensor().row_range(begin, count), w, {cache.get(), 0}, {&slice, 1}, 0.2f);
      }
    };
    run(*ops_, tested_w, y);
    run(*reference_, plain_w, correct);
    // Values are around 0.4: two roundings to 8 bits on the way (to 4 bits for the W_UK^T of q4, which moves scores).
    const double allowed = format == PanelFormat::kQ4 ? 0.06 : rounds_activations() ? 0.03 : 0.015;
    expect_near(y, correct, format == PanelFormat::kBf16 && !rounds_activations() ? 2e-5 : allowed,
                std::string(panel_format_name(format)));
  }
}

VL2_FOR_EVERY_BACKEND(StoredOps);

}  // namespace
}  // namespace vl2::conformance
