#include <cmath>

#include "engine/cuda/kernels/check_argument.h"
#include "engine/cuda/kernels/full_attention.h"
#include "engine/cuda/kernels/packed_keys.h"

namespace vl2::cuda {

int64_t full_attention_bytes(int64_t rows, int64_t heads, int64_t size, bool bf16) {
  return packed_bytes(flash_sizes(size, size, bf16), rows * heads);
}

void full_attention(const FullAttention& args, Stream stream) {
  const int64_t heads = args.out.heads, size = args.out.cols, width = heads * size;
  check_argument(args.qkv.cols == 3 * width && args.tokens >= 1 && args.out.rows % args.tokens == 0, "full_attention",
                 "queries, keys and values of whole items");
  if (args.out.rows == 0) return;
  const auto items = static_cast<int32_t>(args.out.rows / args.tokens);
  const FlashSizes sizes = flash_sizes(size, size, args.bf16);
  const PackedKeys packed = packed_keys(args.scratch, sizes, args.out.rows * heads);
  Pack keys{.out = packed.k,
            .bf16 = sizes.bf16,
            .items = items,
            .groups = static_cast<int32_t>(heads),
            .keys = args.tokens,
            .padded = sizes.size,
            .first = {args.qkv.data + width, args.qkv.row_stride, size, static_cast<int32_t>(size), 0},
            .second = {},
            .cache = {}};
  pack(keys, stream);
  keys.out = packed.v;
  keys.padded = sizes.v;
  keys.first.rows += width;
  pack(keys, stream);
  flash_attention({.out = args.out,
                   .q = {args.qkv.data, args.out.rows, heads, size, args.qkv.row_stride, size},
                   .k = packed.k,
                   .v = packed.v,
                   .bf16 = sizes.bf16,
                   .items = items,
                   .groups = static_cast<int32_t>(heads),
                   .rows = args.tokens,
                   .keys = args.tokens,
                   .padded_size = sizes.size,
                   .padded_v = sizes.v,
                   .causal = false,
                   .past = 0,
                   .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)))},
                  stream);
}

}  // namespace vl2::cuda
