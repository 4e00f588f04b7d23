#include "engine/cpu/packed_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace vl2::cpu {
namespace {

constexpr int64_t kSlabBytes = int64_t{256} << 20;
constexpr int64_t kHugePage = int64_t{2} << 20;

// Position of W[row][k] inside its panel.
int64_t bf16_offset(int64_t row, int64_t k) { return k / 2 * 2 * kPanel + row * 2 + k % 2; }

template <typename Read>
void pack_panel(Format format, int64_t rows, int64_t k, std::byte* out, const Read& read) {
  if (format == Format::kF32) {
    auto* values = reinterpret_cast<float*>(out);
    for (int64_t r = 0; r < kPanel; ++r)
      for (int64_t d = 0; d < k; ++d) values[d * kPanel + r] = r < rows ? read(r, d) : 0.0f;
    return;
  }
  auto* values = reinterpret_cast<BF16*>(out);
  for (int64_t r = 0; r < kPanel; ++r)
    for (int64_t d = 0; d < round_up(k, kTileDepth); ++d)
      values[bf16_offset(r, d)] = r < rows && d < k ? to_bf16(read(r, d)) : BF16{0};
}

}  // namespace

Format format_of(PanelFormat stored) {
  switch (stored) {
    case PanelFormat::kBf16:
      return Format::kBf16;
    case PanelFormat::kQ8:
      return Format::kQ8;
    case PanelFormat::kQ4:
      return Format::kQ4;
  }
  fail(ErrorCode::kInternal, "no such panel format");
}

int64_t panel_bytes(Format format, int64_t k) {
  switch (format) {
    case Format::kF32:
      return kPanel * 4 * k;
    case Format::kBf16:
      return vl2::panel_bytes(PanelFormat::kBf16, k);
    case Format::kQ8:
      return vl2::panel_bytes(PanelFormat::kQ8, k);
    case Format::kQ4:
      return vl2::panel_bytes(PanelFormat::kQ4, k);
  }
  fail(ErrorCode::kInternal, "no such format");
}

std::shared_ptr<std::byte> map_lazily(int64_t bytes) {
  const auto size = static_cast<size_t>(round_up(bytes, kHugePage));
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    fail(ErrorCode::kOutOfMemory, "no address space for {} MiB; ulimit -v may be too low", size >> 20);
  ::madvise(memory, size, MADV_HUGEPAGE);  // without it decoding reads memory about a fifth slower
  return {static_cast<std::byte*>(memory), [size](std::byte* p) { ::munmap(p, size); }};
}

std::shared_ptr<std::byte> SlabAllocator::allocate(int64_t bytes) {
  bytes = round_up(std::max<int64_t>(bytes, 1), 64);
  if (bytes > kSlabBytes / 4) return map_lazily(bytes);
  if (slab_ == nullptr || used_ + bytes > size_) {
    slab_ = map_lazily(kSlabBytes);
    size_ = kSlabBytes;
    used_ = 0;
  }
  std::shared_ptr<std::byte> piece(slab_, slab_.get() + used_);
  used_ += bytes;
  return piece;
}

LookupTable::LookupTable(const TensorView& tensor, SlabAllocator& slabs, ThreadPool& pool) : view(tensor) {
  const auto bytes = static_cast<int64_t>(tensor.num_bytes());
  const std::shared_ptr<std::byte> copy = slabs.allocate(bytes);
  constexpr int64_t kPiece = int64_t{1} << 20;
  pool.parallel_for((bytes + kPiece - 1) / kPiece, [&](int64_t piece, int) {
    const int64_t begin = piece * kPiece;
    std::memcpy(copy.get() + begin, tensor.data + begin, static_cast<size_t>(std::min(kPiece, bytes - begin)));
  });
  data_ = copy;
  view.data = data_.get();
}

int64_t LatentStorage::num_bytes() const {
  int64_t total = 0;
  for (const auto* list : {&uk, &uv, &uk_transposed})
    for (const auto& matrix : *list) total += matrix->num_bytes();
  return total;
}

void pack_rows(PackedMatrix& matrix, const RowReader& rows, ThreadPool& pool) {
  std::vector<std::vector<float>> buffers(static_cast<size_t>(pool.num_threads()));
  pool.parallel_for(num_panels(matrix.n), [&](int64_t panel, int thread) {
    std::vector<float>& buffer = buffers[static_cast<size_t>(thread)];
    buffer.resize(static_cast<size_t>(kPanel * matrix.k));
    const int64_t count = std::min(kPanel, matrix.n - panel * kPanel);
    for (int64_t r = 0; r < count; ++r) rows(panel * kPanel + r, buffer.data() + r * matrix.k);
    pack_panel(matrix.format, count, matrix.k, matrix.writable() + panel * matrix.stride,
               [&](int64_t r, int64_t d) { return buffer[static_cast<size_t>(r * matrix.k + d)]; });
  });
}

void pack_bf16(PackedMatrix& matrix, const BF16* rows, ThreadPool& pool) {
  const int64_t k = matrix.k, pairs = k / 2, all_pairs = round_up(k, kTileDepth) / 2;
  pool.parallel_for(num_panels(matrix.n), [&](int64_t panel, int) {
    auto* out = reinterpret_cast<uint32_t*>(matrix.writable() + panel * matrix.stride);
    const int64_t count = std::min(kPanel, matrix.n - panel * kPanel);
    // A pair of neighbours moves as one 32-bit word; a block of words at a time keeps both sides in the cache.
    constexpr int64_t kBlock = 64;
    for (int64_t begin = 0; begin < all_pairs; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, all_pairs);
      for (int64_t r = 0; r < kPanel; ++r) {
        if (r >= count) {
          for (int64_t p = begin; p < end; ++p) out[p * kPanel + r] = 0;
          continue;
        }
        const BF16* row = rows + (panel * kPanel + r) * k;
        for (int64_t p = begin; p < end; ++p) {
          uint32_t word = 0;
          if (p < pairs) {
            std::memcpy(&word, row + 2 * p, sizeof word);
          } else if (2 * p < k) {
            word = row[2 * p].bits;
          }
          out[p * kPanel + r] = word;
        }
      }
    }
  });
}

void pack_panels(const KernelTable& kernels, Format format, const float* x, int64_t stride, int64_t n, int64_t k,
                 std::byte* out) {
  for (int64_t panel = 0; panel < num_panels(n); ++panel, out += panel_bytes(format, k)) {
    const float* rows = x + panel * kPanel * stride;
    const int64_t columns = std::min(kPanel, n - panel * kPanel);
    if (format == Format::kBf16) {
      kernels.panel_from_rows(rows, stride, columns, k, reinterpret_cast<BF16*>(out));
    } else {
      pack_panel(format, columns, k, out, [&](int64_t r, int64_t d) { return rows[r * stride + d]; });
    }
  }
}

void pack_panels_transposed(const KernelTable& kernels, Format format, const float* x, int64_t stride, int64_t n,
                            int64_t k, std::byte* out) {
  for (int64_t panel = 0; panel < num_panels(n); ++panel, out += panel_bytes(format, k)) {
    const float* first = x + panel * kPanel;
    const int64_t columns = std::min(kPanel, n - panel * kPanel);
    if (format == Format::kBf16) {
      kernels.panel_from_columns(first, stride, columns, k, reinterpret_cast<BF16*>(out));
      continue;
    }
    auto* values = reinterpret_cast<float*>(out);
    for (int64_t d = 0; d < k; ++d, values += kPanel) {
      std::copy_n(first + d * stride, columns, values);
      std::fill(values + columns, values + kPanel, 0.0f);
    }
  }
}

}  // namespace vl2::cpu
