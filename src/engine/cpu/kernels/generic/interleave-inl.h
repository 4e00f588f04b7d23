// Rows packed side by side, word by word: how the rows of a product lie. Included inside an ISA namespace after simd.h.

// From this many rows on a transposition is quicker than moving words one by one.
inline constexpr int64_t kRowsToTranspose = 6;

// out[i * count + r] = lane i of rows[r], i < n <= 16, r < count <= 16. A store may reach beyond its `count` words,
// where the next one writes, but not beyond `room` words from out on. Overwrites rows.
inline void store_interleaved(Vec* rows, int64_t n, int64_t count, float* out, int64_t room) {
  transpose16(rows);
  for (int64_t i = 0; i < n; ++i, out += count, room -= count) {
    if (room >= 16) {
      store(out, rows[i]);
    } else {
      store_n(out, rows[i], count);
    }
  }
}
