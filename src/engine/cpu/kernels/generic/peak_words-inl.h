// The limit of 8-bit products that are added up in words. Included inside an ISA namespace after words-inl.h.

// The block of the product kernels, every row with activations of its own, on nibbles that lie in the first-level
// cache.
[[gnu::noinline]] inline int64_t peak_int8(const void* data, int64_t rounds, float* sink) {
  constexpr int64_t kSteps = kWordDepth / 8;
  constexpr int64_t kPanelBytes = 64 * kSteps, kBytes = kPanelBytes * kQuantPanels + kWordDepth * kQuantRows;
  constexpr int64_t kBlocks = kPeakBytes / kBytes;
  constexpr int kSums = kQuantRows * kQuantPanels;
  Sums sums[kSums];
  for (int s = 0; s < kSums; ++s) sums[s] = set_sums(s);
  for (int64_t round = 0; round < rounds; ++round) {
    const auto* from = static_cast<const uint8_t*>(data);
    for (int64_t block = 0; block < kBlocks; ++block, from += kBytes) {
      const auto* a = reinterpret_cast<const int8_t*>(from + kPanelBytes * kQuantPanels);
      add_words_of<Interleaved, Half::kBoth, kQuantRows, kQuantPanels>(from, kPanelBytes, a, kSteps, sums);
    }
  }
  Sums all = set_sums(0);
  for (int s = 0; s < kSums; ++s) all = add(all, sums[s]);
  *sink = reduce_add(to_floats(all));
  return rounds * kBlocks * kSums * kPanel * kWordDepth * 2;
}
