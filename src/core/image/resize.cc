#include "core/image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr double kBicubicA = -0.5;
constexpr double kSupport = 2.0;  // half the width of the kernel, in samples of the larger scale
constexpr int kFractionBits = 22;
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

double bicubic_kernel(double x) {
  x = std::fabs(x);
  if (x < 1.0) return ((kBicubicA + 2.0) * x - (kBicubicA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kBicubicA;
  return 0.0;
}

// The input samples one output sample is made of, and their weights in 22-bit fixed point.
struct Taps {
  int64_t first;
  int64_t count;
  const int32_t* weights;
};

// One axis: the taps of every output sample.
class Axis {
 public:
  Axis(int64_t in, int64_t out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double stretch = std::max(scale, 1.0);
    const double support = kSupport * stretch;
    max_taps_ = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
    weights_.resize(static_cast<size_t>(max_taps_ * out));
    spans_.reserve(static_cast<size_t>(out));
    std::vector<double> exact(static_cast<size_t>(max_taps_));
    for (int64_t x = 0; x < out; ++x) {
      const double centre = (static_cast<double>(x) + 0.5) * scale;
      // Truncated, not rounded: a negative sum of -0.5 to -1 becomes 0 in Pillow, too.
      // NOLINTBEGIN(bugprone-incorrect-roundings)
      const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
      const int64_t count = std::min(in, static_cast<int64_t>(centre + support + 0.5)) - first;
      // NOLINTEND(bugprone-incorrect-roundings)
      const double per_sample = 1.0 / stretch;
      double sum = 0.0;
      for (int64_t i = 0; i < count; ++i) {
        exact[i] = bicubic_kernel((static_cast<double>(i + first) - centre + 0.5) * per_sample);
        sum += exact[i];
      }
      int32_t* weights = weights_.data() + x * max_taps_;
      for (int64_t i = 0; i < count; ++i) {
        const double share = (sum != 0.0 ? exact[i] / sum : exact[i]) * (1 << kFractionBits);
        weights[i] = static_cast<int32_t>(share < 0 ? share - 0.5 : share + 0.5);
      }
      spans_.push_back({first, count});
    }
  }

  int64_t max_taps() const { return max_taps_; }
  Taps operator[](int64_t x) const { return {spans_[x].first, spans_[x].count, weights_.data() + x * max_taps_}; }

 private:
  struct Span {
    int64_t first;
    int64_t count;
  };
  int64_t max_taps_;
  std::vector<Span> spans_;
  std::vector<int32_t> weights_;
};

uint8_t clip8(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

void resize_row(const uint8_t* in, const Axis& axis, int64_t width, uint8_t* out) {
  for (int64_t x = 0; x < width; ++x) {
    const Taps taps = axis[x];
    const uint8_t* pixel = in + taps.first * 3;
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int64_t i = 0; i < taps.count; ++i, pixel += 3) {
      const int32_t weight = taps.weights[i];
      red += pixel[0] * weight;
      green += pixel[1] * weight;
      blue += pixel[2] * weight;
    }
    *out++ = clip8(red);
    *out++ = clip8(green);
    *out++ = clip8(blue);
  }
}

}  // namespace

Image resize_bicubic(const Image& image, int64_t width, int64_t height) {
  check_image(image);
  VL2_CHECK(width > 0 && height > 0, "resize to {} x {}", width, height);
  if (width == image.width && height == image.height) return image;

  const bool same_width = width == image.width;
  const Axis columns(image.width, width);
  Image out = make_image(width, height, 0, 0, 0);
  if (height == image.height) {
    for (int64_t y = 0; y < height; ++y) resize_row(image.row(y), columns, width, out.row(y));
    return out;
  }

  // Rows resized horizontally are kept in a ring just long enough for the vertical taps: a tall photo needs no second
  // copy.
  const Axis rows(image.height, height);
  const size_t row_bytes = out.row_bytes();
  std::vector<uint8_t> ring(same_width ? 0 : static_cast<size_t>(rows.max_taps()) * row_bytes);
  int64_t resized = rows[0].first;
  std::vector<int32_t> sums(row_bytes);
  for (int64_t y = 0; y < height; ++y) {
    const Taps taps = rows[y];
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int64_t i = 0; i < taps.count; ++i) {
      const int64_t in_y = taps.first + i;
      const uint8_t* row = image.row(in_y);
      if (!same_width) {
        uint8_t* slot = ring.data() + static_cast<size_t>(in_y % rows.max_taps()) * row_bytes;
        if (in_y >= resized) {
          resize_row(image.row(in_y), columns, width, slot);
          resized = in_y + 1;
        }
        row = slot;
      }
      const int32_t weight = taps.weights[i];
      for (size_t x = 0; x < row_bytes; ++x) sums[x] += row[x] * weight;
    }
    uint8_t* out_row = out.row(y);
    for (size_t x = 0; x < row_bytes; ++x) out_row[x] = clip8(sums[x]);
  }
  return out;
}

}  // namespace vl2
