// Floats to panels: the search for a group's scale, all 16 rows of a panel at once.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/quant/panel_format.h"

namespace vl2 {
namespace {

// Four rows. GCC's own vectors: they run on every processor this program is built for.
using Lanes = float __attribute__((vector_size(16)));
constexpr int64_t kLanes = 4, kVectors = kPanelRows / kLanes;

Lanes all(float x) { return Lanes{x, x, x, x}; }
// A NaN becomes `low`: the codes of what is no number are still codes.
Lanes clamp(Lanes x, Lanes low, Lanes high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}
// To the nearest integer, ties to even, for |x| < 2^22.
Lanes round(Lanes x) {
  const Lanes shift = all(12582912.0f);
  return x + shift - shift;
}

// One group of a panel: [k][16 rows], each row divided by its value of the largest size.
struct Group {
  Lanes x[kQuantGroup][kVectors];
  float extreme[kPanelRows];  // with its sign; 0: every value is too small to keep; NaN: one is not finite
  int64_t count;              // of k
};

// Smaller values are stored as zeros: their scales would leave bfloat16's range of full precision.
constexpr float kTiny = 1e-30f;

void load(Group& group, const float* rows, int64_t stride, int64_t num_rows, int64_t count) {
  auto* x = reinterpret_cast<float*>(group.x);
  group.count = count;
  for (int64_t r = 0; r < kPanelRows; ++r) {
    const float* w = rows + r * stride;
    float extreme = 0;
    bool finite = true;
    for (int64_t k = 0; r < num_rows && k < count; ++k) {
      finite &= std::isfinite(w[k]);
      if (std::fabs(w[k]) > std::fabs(extreme)) extreme = w[k];
    }
    group.extreme[r] = !finite ? NAN : std::fabs(extreme) < kTiny ? 0.0f : extreme;
    const bool some = finite && group.extreme[r] != 0;
    const float inverse = some ? 1.0f / extreme : 0.0f;
    for (int64_t k = 0; k < count; ++k) x[k * kPanelRows + r] = some ? w[k] * inverse : 0.0f;
  }
}

// Of the codes that a trial scale gives: wq / qq is the best scale for these codes, and wq^2 / qq is how much of the
// sum of squares they explain; the rest is the error.
struct Sums {
  Lanes wq = all(0), qq = all(0);

  void add(Lanes x, Lanes q, Lanes weight) {
    const Lanes weighted = weight * q;
    wq += x * weighted;
    qq += q * weighted;
  }
};

struct Best {
  Lanes explained = all(0), scale = all(-0.125f);  // which gives the largest value its exact code

  void consider(const Sums& sums, float sign) {
    const Lanes some = all(1e-30f), qq = sums.qq > some ? sums.qq : some;
    const Lanes here = sums.wq * sums.wq / qq;
    const auto better = here > explained;
    explained = better ? here : explained;
    scale = better ? all(sign) * sums.wq / qq : scale;
  }
};

// 4-bit scales of four rows, as parts of their extremes. Codes of the largest value from 6 to 10 are tried: clipping it
// often costs less than a coarser grid for all others. -8 has no partner, so either sign may give it to the longer
// side. A step of 0.125 and more rounds at the end would lower the error by 0.1 % of itself.
Lanes search_scale(const Group& group, int64_t vector, const float* importance) {
  Best best;
  for (float levels = 6.0f; levels <= 10.0f; levels += 0.5f) {
    Sums plain, negated;  // the scale negated, and with it the codes
    for (int64_t k = 0; k < group.count; ++k) {
      const Lanes x = group.x[k][vector], q = round(x * all(levels)), weight = all(importance[k]);
      plain.add(x, clamp(q, all(-8), all(7)), weight);
      negated.add(x, clamp(q, all(-7), all(8)), weight);
    }
    best.consider(plain, 1);
    best.consider(negated, -1);
  }
  for (int round_trip = 0; round_trip < 2; ++round_trip) {
    const Lanes inverse = all(1) / best.scale;
    Sums sums;
    for (int64_t k = 0; k < group.count; ++k) {
      const Lanes x = group.x[k][vector];
      sums.add(x, round(clamp(x * inverse, all(-8), all(7))), all(importance[k]));
    }
    best.consider(sums, 1);
  }
  return best.scale;
}

void encode_group(PanelFormat format, const Group& group, const float* importance, BF16* scales, uint8_t* codes) {
  const bool eight = format == PanelFormat::kQ8;
  const Lanes low = all(eight ? -127 : -8), high = all(eight ? 127 : 7), zero = all(eight ? 128 : 8);
  for (int64_t v = 0; v < kVectors; ++v) {
    const Lanes parts = eight ? all(1.0f / 127) : search_scale(group, v, importance);
    Lanes inverse = all(0);
    for (int64_t i = 0; i < kLanes; ++i) {
      const float extreme = group.extreme[v * kLanes + i];
      const BF16 scale = to_bf16(parts[i] * (eight ? std::fabs(extreme) : extreme));
      scales[v * kLanes + i] = scale;
      if (to_float(scale) != 0 && std::isfinite(extreme)) inverse[i] = extreme / to_float(scale);
    }
    for (int64_t k = 0; k < group.count; ++k) {
      const Lanes q = round(clamp(group.x[k][v] * inverse, low, high)) + zero;
      uint8_t* out = codes + (eight ? k / 4 : k / 8) * 64 + v * kLanes * 4 + k % 4;
      const bool second = !eight && k % 8 >= 4;  // of the two nibbles
      for (int64_t i = 0; i < kLanes; ++i) {
        const auto code = static_cast<uint8_t>(q[i]);
        uint8_t& byte = out[i * 4];
        byte = eight ? code : second ? static_cast<uint8_t>((byte & 15) | code << 4) : (byte & 0xf0) | code;
      }
    }
  }
}

void encode_bf16(const float* rows, int64_t stride, int64_t count, int64_t cols, BF16* out) {
  for (int64_t r = 0; r < count; ++r)
    for (int64_t k = 0; k < cols; ++k) out[k / 2 * 2 * kPanelRows + r * 2 + k % 2] = to_bf16(rows[r * stride + k]);
}

}  // namespace

void encode_panel(PanelFormat format, const float* rows, int64_t stride, int64_t count, int64_t cols,
                  const float* importance, std::byte* out) {
  VL2_CHECK(count > 0 && count <= kPanelRows && cols > 0);
  const auto num_bytes = static_cast<size_t>(panel_bytes(format, cols));
  std::memset(out, 0, num_bytes);
  if (format == PanelFormat::kBf16) return encode_bf16(rows, stride, count, cols, reinterpret_cast<BF16*>(out));
  const auto scale_bytes = static_cast<size_t>(quant_scale_bytes(cols));
  std::memset(out + scale_bytes, format == PanelFormat::kQ8 ? 0x80 : 0x88, num_bytes - scale_bytes);
  auto* scales = reinterpret_cast<BF16*>(out);
  auto* codes = reinterpret_cast<uint8_t*>(out + scale_bytes);
  std::array<float, kQuantGroup> equal;
  equal.fill(1.0f);
  Group group;
  for (int64_t begin = 0; begin < cols; begin += kQuantGroup) {
    load(group, rows + begin, stride, count, std::min(kQuantGroup, cols - begin));
    encode_group(format, group, importance != nullptr ? importance + begin : equal.data(),
                 scales + begin / kQuantGroup * kPanelRows, codes + begin * (format == PanelFormat::kQ8 ? 16 : 8));
  }
}

}  // namespace vl2
