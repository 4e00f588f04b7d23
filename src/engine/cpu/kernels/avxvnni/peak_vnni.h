// The limit of 8-bit products with AVX-VNNI. Included after dot_vnni.h.

[[gnu::noinline]] inline int64_t peak_int8(const void* data, int64_t rounds, float* sink) {
  constexpr int kPeakSums = 12;  // the most the registers hold
  constexpr int64_t kVectors = kPeakBytes / 32;
  const auto* x = static_cast<const __m256i*>(data);
  __m256i sum[kPeakSums];
#pragma GCC unroll 12
  for (int s = 0; s < kPeakSums; ++s) sum[s] = _mm256_set1_epi32(s);  // equal sums would be computed once
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t v = 0; v + 1 < kVectors; v += 2) {
      const __m256i a = _mm256_loadu_si256(x + v), b = _mm256_loadu_si256(x + v + 1);
#pragma GCC unroll 12
      for (int s = 0; s < kPeakSums; ++s)
        __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum[s]) : "x"(a), "x"(b));
    }
  }
#pragma GCC unroll 12
  for (int s = 1; s < kPeakSums; ++s) sum[0] = _mm256_add_epi32(sum[0], sum[s]);
  *sink = _mm256_cvtss_f32(_mm256_cvtepi32_ps(sum[0]));
  return rounds * (kVectors / 2) * kPeakSums * 32 * 2;
}
