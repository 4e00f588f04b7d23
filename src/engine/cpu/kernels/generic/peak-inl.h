// The limits of this unit. Included inside an ISA namespace after its simd.h.

// As many sums as the product kernels keep in registers.
inline constexpr int kPeakSums = kRowGroup * kPanelsAtOnce;

[[gnu::noinline]] inline int64_t peak_f32(const void* data, int64_t rounds, float* sink) {
  const float* x = static_cast<const float*>(data);
  constexpr int64_t kVectors = kPeakBytes / 64;
  Vec sum[kPeakSums];
#pragma GCC unroll 24
  for (int s = 0; s < kPeakSums; ++s) sum[s] = set1(static_cast<float>(s));  // equal sums would be computed once
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t v = 0; v + 1 < kVectors; v += 2) {
      const Vec a = load(x + v * 16), b = load(x + (v + 1) * 16);
#pragma GCC unroll 24
      for (int s = 0; s < kPeakSums; ++s) sum[s] = fma(a, b, sum[s]);
      __asm__ volatile("" ::: "memory");  // the same product every round must not be hoisted
    }
  }
#pragma GCC unroll 24
  for (int s = 1; s < kPeakSums; ++s) sum[0] = add(sum[0], sum[s]);
  *sink = reduce_add(sum[0]);
  return rounds * (kVectors / 2) * kPeakSums * 16 * 2;
}

template <int kStreams>
inline float read_streams(const float* x, int64_t floats, int64_t ahead) {
  constexpr int kLines = 4 / kStreams;  // a step of one stream: four sums whatever the number of streams
  const int64_t stream = floats / kStreams;
  Vec sum[4] = {zero(), zero(), zero(), zero()};
  for (int64_t i = 0; i < stream; i += 16 * kLines) {
    if (i * 4 % kPageBytes == 0)
      for (int s = 0; s < kStreams; ++s) fetch_page(x + s * stream + i + ahead + kPagesAhead / 4);
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const float* p = x + s / kLines * stream + i + s % kLines * 16;
      __builtin_prefetch(p + ahead);
      sum[s] = add(sum[s], load(p));
    }
  }
  return reduce_add(add(add(sum[0], sum[1]), add(sum[2], sum[3])));
}

[[gnu::noinline]] inline float read_memory(const std::byte* data, int64_t bytes, int streams, int64_t ahead) {
  const float* x = reinterpret_cast<const float*>(data);
  if (streams == 1) return read_streams<1>(x, bytes / 4, ahead / 4);
  return streams == 2 ? read_streams<2>(x, bytes / 4, ahead / 4) : read_streams<4>(x, bytes / 4, ahead / 4);
}
