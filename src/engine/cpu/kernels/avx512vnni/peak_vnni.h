// The limit of 8-bit products with VNNI. Included after dot_vnni.h.

[[gnu::noinline]] inline int64_t peak_int8(const void* data, int64_t rounds, float* sink) {
  constexpr int kPeakSums = kQuantRows * kQuantPanels;
  constexpr int64_t kVectors = kPeakBytes / 64;
  const auto* x = static_cast<const uint8_t*>(data);
  __m512i sum[kPeakSums];
#pragma GCC unroll 24
  for (int s = 0; s < kPeakSums; ++s) sum[s] = _mm512_set1_epi32(s);  // equal sums would be computed once
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t v = 0; v + 1 < kVectors; v += 2) {
      const __m512i a = _mm512_loadu_si512(x + v * 64), b = _mm512_loadu_si512(x + (v + 1) * 64);
#pragma GCC unroll 24
      for (int s = 0; s < kPeakSums; ++s)  // as text: the compiler spills what it could keep
        __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum[s]) : "v"(a), "v"(b));
    }
  }
#pragma GCC unroll 24
  for (int s = 1; s < kPeakSums; ++s) sum[0] = _mm512_add_epi32(sum[0], sum[s]);
  *sink = _mm512_reduce_add_ps(_mm512_cvtepi32_ps(sum[0]));  // sums wrap around; adding ints across would be undefined
  return rounds * (kVectors / 2) * kPeakSums * 64 * 2;
}
