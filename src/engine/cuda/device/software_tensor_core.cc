// mma and ldmatrix of the software device, lane by lane as PTX lays their fragments out.
#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "engine/cuda/device/tensor_core.h"

namespace vl2::cuda::software {
namespace {

float half_of(unsigned pair, int which) { return std::bit_cast<float>(which == 0 ? pair << 16 : pair & 0xffff0000u); }

struct MmaLane {
  float* c;
  const unsigned *a, *b;
};

void multiply(void* const* lanes, unsigned mask) {
  VL2_CHECK(mask == 0xffffffffu);
  float a[16][16], b[8][16];  // b as [n][k]
  for (int lane = 0; lane < 32; ++lane) {
    const auto& l = *static_cast<const MmaLane*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4 * 2;
    for (int i = 0; i < 2; ++i) {
      for (int r = 0; r < 4; ++r) a[g + r % 2 * 8][t + r / 2 * 8 + i] = half_of(l.a[r], i);
      for (int r = 0; r < 2; ++r) b[g][t + r * 8 + i] = half_of(l.b[r], i);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& l = *static_cast<const MmaLane*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      const float *row = a[lane / 4 + i / 2 * 8], *column = b[lane % 4 * 2 + i % 2];
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += row[k] * column[k];
      l.c[i] += sum;
    }
  }
}

struct LoadLane {
  unsigned* m;
  const void* row;
  int count;
  bool transposed;
};

void load(void* const* lanes, unsigned mask) {
  VL2_CHECK(mask == 0xffffffffu);
  for (int lane = 0; lane < 32; ++lane) {
    const auto& l = *static_cast<const LoadLane*>(lanes[lane]);
    for (int i = 0; i < l.count; ++i) {
      uint16_t values[2];
      for (int j = 0; j < 2; ++j) {
        const int row = l.transposed ? lane % 4 * 2 + j : lane / 4, column = l.transposed ? lane / 4 : lane % 4 * 2 + j;
        const auto* from = static_cast<const LoadLane*>(lanes[i * 8 + row])->row;
        VL2_CHECK(reinterpret_cast<uintptr_t>(from) % 16 == 0, "ldmatrix of an address that is no multiple of 16");
        std::memcpy(&values[j], static_cast<const std::byte*>(from) + column * 2, 2);
      }
      l.m[i] = values[0] | static_cast<unsigned>(values[1]) << 16;
    }
  }
}

}  // namespace

void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  MmaLane mine{c, a, b};
  meet(Meeting::kMma, 0xffffffffu, &mine, multiply);
}

void load_matrix(unsigned* m, const void* row, int count, bool transposed) {
  LoadLane mine{m, row, count, transposed};
  meet(Meeting::kLoadMatrix, 0xffffffffu, &mine, load);
}

}  // namespace vl2::cuda::software
