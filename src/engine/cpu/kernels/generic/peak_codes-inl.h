// The limit of 8-bit products where no instruction makes them whole (VNNI has its own loop). Included inside an ISA
// namespace after codes.h and its dot_nibbles.

inline constexpr int64_t kPeakStep = 64 * (kQuantPanels + 1);
inline constexpr int64_t kPeakSteps = kPeakBytes / kPeakStep;

// The block of the product kernels, every row with activations of its own, on codes that lie in the first-level cache.
// A function of its own, and sums in memory around it, for the reason of multiply_codes; a number of steps the compiler
// knows would make it store the sums at every one.
[[gnu::noinline]] inline void peak_block(const uint8_t* from, int64_t steps, Sums* sums) {
  Sums sum[kQuantRows][kQuantPanels];
#pragma GCC unroll 16
  for (int m = 0; m < kQuantRows; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < kQuantPanels; ++p) sum[m][p] = sums[m * kQuantPanels + p];
  for (int64_t step = 0; step < steps; ++step, from += kPeakStep) {
    const auto* a = reinterpret_cast<const int8_t*>(from + 64 * kQuantPanels);
    Codes w[kQuantPanels];
#pragma GCC unroll 16
    for (int p = 0; p < kQuantPanels; ++p) w[p] = low_nibbles(load_codes(from + 64 * p));
#pragma GCC unroll 16
    for (int m = 0; m < kQuantRows; ++m)
#pragma GCC unroll 16
      for (int p = 0; p < kQuantPanels; ++p) sum[m][p] = dot_nibbles(sum[m][p], w[p], a + 4 * m);
  }
#pragma GCC unroll 16
  for (int m = 0; m < kQuantRows; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < kQuantPanels; ++p) sums[m * kQuantPanels + p] = sum[m][p];
}

[[gnu::noinline]] inline int64_t peak_int8(const void* data, int64_t rounds, float* sink) {
  constexpr int kSums = kQuantRows * kQuantPanels;
  alignas(64) Sums sums[kSums];
  for (int s = 0; s < kSums; ++s) sums[s] = set_sums(s);
  int64_t steps = kPeakSteps;
  __asm__ volatile("" : "+r"(steps));
  for (int64_t round = 0; round < rounds; ++round) peak_block(static_cast<const uint8_t*>(data), steps, sums);
  Sums all = set_sums(0);
  for (int s = 0; s < kSums; ++s) all = add(all, sums[s]);
  *sink = reduce_add(to_floats(all));
  return rounds * kPeakSteps * kSums * 16 * 4 * 2;
}
