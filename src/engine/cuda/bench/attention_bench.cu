// Attention kernels at the releases' shapes on a GPU: time of a call, and what of the device that is.
//
//   vl2_cuda_attention_bench        about ten seconds; one line for each case, medians of 20 calls
//   vl2_cuda_attention_bench flash  the kernels of many rows alone, with all their tiles
//
// GB/s counts the cache once, TFLOP/s the products of visible pairs alone.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/kernels/cache_append.h"
#include "engine/cuda/kernels/cached_attention.h"
#include "engine/cuda/kernels/flash_warpgroups.h"
#include "engine/cuda/kernels/full_attention.h"
#include "engine/cuda/kernels/latent_attention.h"

namespace vl2::cuda {
namespace {

__global__ void fill_kernel(unsigned* words, size_t count, bool bf16) {
  const size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  unsigned x = static_cast<unsigned>(i) * 2654435761u;
  x ^= x >> 15;
  // Between 0.5 and 1 or -0.5 and -1: sign and mantissa at random.
  words[i] = bf16 ? (0x3f003f00u | (x & 0x807f807fu)) : (0x3f000000u | (x & 0x807fffffu));
}

struct Memory {
  explicit Memory(size_t bytes, bool bf16 = false) : words((bytes + 3) / 4) {
    if (cudaMalloc(&data, words * 4 + 256) != cudaSuccess) {
      std::printf("no memory for %zu bytes\n", bytes);
      std::exit(1);
    }
    fill_kernel<<<static_cast<unsigned>((words + 255) / 256), 256>>>(static_cast<unsigned*>(data), words, bf16);
  }
  template <typename T>
  explicit Memory(const std::vector<T>& values) : Memory(values.size() * sizeof(T)) {
    cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~Memory() { cudaFree(data); }
  Memory(const Memory&) = delete;
  float* floats() const { return static_cast<float*>(data); }

  size_t words;
  void* data = nullptr;
};

struct Rows : Memory {
  Rows(int64_t rows, int64_t heads, int64_t cols)
      : Memory(static_cast<size_t>(rows * heads * cols) * 4), view{floats(), rows, heads, cols, heads * cols, cols} {}
  RowsView view;
};

constexpr int kBlockTokens = 16;

// `count` rows of each of `number` sequences after `past` tokens, in a bf16 cache.
struct Batch {
  Batch(int number, int past, int count, bool decode, int width)
      : blocks_each((past + count + kBlockTokens - 1) / kBlockTokens),
        cache_memory(static_cast<size_t>(number) * blocks_each * kBlockTokens * width * 2, true) {
    std::vector<SequenceRows> sequences;
    std::vector<int32_t> blocks, row_sequence, answers;
    for (int s = 0; s < number; ++s) {
      sequences.push_back({s * count, count, past, s * blocks_each, decode, decode ? s * count : 0});
      for (int b = 0; b < blocks_each; ++b) blocks.push_back((s * blocks_each + b) * 7919 % (number * blocks_each));
      for (int i = 0; i < count; ++i) {
        row_sequence.push_back(s);
        answers.push_back(s * count + i);
      }
    }
    tables.push_back(std::make_unique<Memory>(sequences));
    for (const auto* list : {&blocks, &row_sequence, &answers}) tables.push_back(std::make_unique<Memory>(*list));
    const auto ints = [&](int i) { return static_cast<const int32_t*>(tables[i]->data); };
    view.sequences = static_cast<const SequenceRows*>(tables[0]->data);
    view.block_table = ints(1);
    view.row_sequence = ints(2);
    view.answer_rows = ints(3);
    view.num_sequences = number;
    view.rows = number * count;
    view.longest_context = past + count;
    view.longest_count = count;
    view.decode_rows = decode ? number * count : 0;
    view.longest_answer = decode ? count : 0;
    cache = {cache_memory.data, true, kBlockTokens, width};
  }

  int blocks_each;
  Memory cache_memory;
  std::vector<std::unique_ptr<Memory>> tables;
  SequencesView view;
  CacheView cache;
};

int multiprocessors() {
  int count = 0;
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0);
  return count;
}

// each: runs of a call, where one is too short to be timed.
template <typename Run>
void measure(const std::string& name, double flops, double bytes, const Run& run, int each = 1) {
  constexpr int kCalls = 20;
  cudaEvent_t begin, end;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  std::vector<float> times;
  for (int i = 0; i < kCalls + 3; ++i) {
    cudaEventRecord(begin);
    for (int j = 0; j < each; ++j) run();
    cudaEventRecord(end);
    cudaEventSynchronize(end);
    float ms = 0;
    cudaEventElapsedTime(&ms, begin, end);
    if (i >= 3) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  const double ms = static_cast<double>(times[kCalls / 2]) / each;
  std::printf("%-44s %9.1f us", name.c_str(), ms * 1e3);
  if (flops > 0) std::printf("  %7.1f TFLOP/s", flops / ms * 1e-9);
  if (bytes > 0) std::printf("  %7.0f GB/s", bytes / ms * 1e-6);
  std::printf("  %s\n", cudaGetErrorString(cudaGetLastError()));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
}

void vision(int tiles) {
  constexpr int kTokens = 729, kHeads = 16, kSize = 72;
  Rows qkv(tiles * kTokens, 1, 3 * kHeads * kSize), out(tiles * kTokens, kHeads, kSize);
  Memory scratch(full_attention_bytes(tiles * kTokens, kHeads, kSize, true));
  measure("vision, " + std::to_string(tiles) + " tiles", 4.0 * tiles * kTokens * kTokens * kHeads * kSize, 0, [&] {
    full_attention({out.view, qkv.view, kTokens, true, scratch.data}, nullptr);
  });
}

double pairs(double past, double count) { return count * past + count * (count + 1) / 2; }

void tiny_prompt(int past, int count) {
  constexpr int kHeads = 10, kSize = 128;
  Batch batch(1, past, count, false, 2 * kHeads * kSize);
  Rows q(count, kHeads, kSize), out(count, kHeads, kSize);
  Memory scratch(cached_prompt_bytes(past + count, kHeads, kSize, true));
  measure("tiny, prompt " + std::to_string(count) + " after " + std::to_string(past),
          4.0 * pairs(past, count) * kHeads * kSize, 0, [&] {
            cached_prompt(
                {out.view, q.view, batch.cache, batch.view.block_table, kHeads, past, 0.09f, true, scratch.data},
                nullptr);
          });
}

void latent_prompt_case(int heads, int past, int count) {
  constexpr int kNope = 128, kRope = 64, kV = 128, kRank = 512;
  Batch batch(1, past, count, false, kRank + kRope);
  Rows q(count, heads, kNope + kRope), out(count, heads, kV), kv(past + count, heads, kNope + kV);
  Memory scratch(latent_prompt_bytes(past + count, heads, kNope + kRope, kV, true));
  measure(std::to_string(heads) + " latent heads, prompt " + std::to_string(count) + " after " + std::to_string(past),
          2.0 * pairs(past, count) * heads * (kNope + kRope + kV), 0, [&] {
            latent_prompt({out.view, q.view, kv.floats(), heads * (kNope + kV), kNope, kRank, batch.cache,
                           batch.view.block_table, past, 0.07f, true, scratch.data},
                          nullptr);
          });
}

void tiny_answers(int sequences, int context) {
  constexpr int kHeads = 10, kSize = 128;
  Batch batch(sequences, context - 1, 1, true, 2 * kHeads * kSize);
  Rows q(sequences, kHeads, kSize), out(sequences, kHeads, kSize), k(sequences, kHeads, kSize),
      v(sequences, kHeads, kSize);
  Memory scratch(cached_answers_bytes(batch.view, kHeads, kSize));
  const std::string name = "tiny, " + std::to_string(sequences) + " answers after " + std::to_string(context);
  measure(name + ", append", 0, 0, [&] { append_to_cache({k.view, v.view, batch.cache, batch.view}, nullptr); });
  measure(name, 0, 2.0 * sequences * context * 2 * kHeads * kSize, [&] {
    cached_answers({out.view, q.view, batch.cache, batch.view, kHeads, 0.09f, scratch.data}, nullptr);
  });
}

void latent_answers_case(int heads, int sequences, int context) {
  constexpr int kNope = 128, kRope = 64, kV = 128, kRank = 512;
  Batch batch(sequences, context - 1, 1, true, kRank + kRope);
  Rows q(sequences, heads, kNope + kRope), out(sequences, heads, kV);
  Memory w(static_cast<size_t>(heads) * (kNope + kV) * kRank * 2, true);
  LatentAnswers args{.out = out.view,
                     .q = q.view,
                     .weights = {{MatrixFormat::kBf16, w.data, heads * (kNope + kV), kRank, kRank}, heads, kNope, kV},
                     .cache = batch.cache,
                     .sequences = batch.view,
                     .scale = 0.07f,
                     .bf16 = true,
                     .multiprocessors = multiprocessors()};
  Memory scratch(static_cast<size_t>(latent_answers_bytes(args)));
  args.scratch = scratch.data;
  const double bytes = 2.0 * sequences * context * (kRank + kRope) + 2.0 * heads * (kNope + kV) * kRank;
  measure(std::to_string(heads) + " latent heads, " + std::to_string(sequences) + " answers after " +
              std::to_string(context),
          0, bytes, [&] { latent_answers(args, nullptr); });
}

std::vector<float> written(const FlashAttention& a) {
  const auto count = static_cast<size_t>(a.out.rows * a.out.row_stride);
  std::vector<float> values(count);
  if (a.out_bf16 == nullptr) {
    cudaMemcpy(values.data(), a.out.data, count * 4, cudaMemcpyDeviceToHost);
    return values;
  }
  std::vector<Bf16Bits> bits(count);
  cudaMemcpy(bits.data(), a.out_bf16, count * 2, cudaMemcpyDeviceToHost);
  for (size_t i = 0; i < count; ++i) {
    const unsigned word = static_cast<unsigned>(bits[i]) << 16;
    std::memcpy(&values[i], &word, 4);
  }
  return values;
}

// Both kernels, and how far their results are apart.
void flash_case(const std::string& name, double flops, const FlashAttention& a) {
  constexpr int kEach = 10;
  measure(
      name + ", warps", flops, 0, [&] { flash_warps(a, nullptr); }, kEach);
  if (!flash_warpgroups_run()) return;
  const std::vector<float> expected = written(a);
  // What was written before must not pass for a result.
  if (a.out_bf16 != nullptr) {
    cudaMemset(a.out_bf16, 0xff, expected.size() * 2);
  } else {
    cudaMemset(a.out.data, 0xff, expected.size() * 4);
  }
  measure(
      "  warpgroups", flops, 0, [&] { flash_warpgroups(a, nullptr); }, kEach);
  const std::vector<float> is = written(a);
  double most = 0;
  for (size_t i = 0; i < is.size(); ++i) {
    const double apart = std::abs(static_cast<double>(is[i]) - static_cast<double>(expected[i]));
    most = apart <= most ? most : apart;
    if (std::isnan(apart)) break;
  }
  std::printf("%50s %.2g apart\n", "", most);
}

void flash_vision(int tiles) {
  constexpr int kTokens = 729, kHeads = 16, kSize = 72, kWidth = kHeads * kSize;
  const FlashSizes sizes = flash_sizes(kSize, kSize, true);
  Memory qkv(static_cast<size_t>(tiles) * kTokens * 3 * kWidth * 2, true);
  Memory out(static_cast<size_t>(tiles) * kTokens * kWidth * 2, true);
  const KeyLayout layout{int64_t{3} * kWidth * kTokens, kSize, 3 * kWidth, kSize};
  auto* const joined = static_cast<Bf16Bits*>(qkv.data);
  flash_case("vision, " + std::to_string(tiles) + " tiles", 4.0 * tiles * kTokens * kTokens * kHeads * kSize,
             {.out = {nullptr, tiles * kTokens, kHeads, kSize, kWidth, kSize},
              .q = {nullptr, tiles * kTokens, kHeads, kSize, 3 * kWidth, kSize},
              .k = joined + kWidth,
              .v = joined + 2 * kWidth,
              .bf16 = true,
              .items = tiles,
              .groups = kHeads,
              .rows = kTokens,
              .keys = kTokens,
              .padded_size = sizes.size,
              .padded_v = sizes.v,
              .scale = 0.118f,
              .k_layout = layout,
              .v_layout = layout,
              .q_bf16 = joined,
              .out_bf16 = static_cast<Bf16Bits*>(out.data)});
}

void flash_prompt(const std::string& name, int heads, int size, int v, int past, int count) {
  const FlashSizes sizes = flash_sizes(size, v, true);
  const int keys = past + count;
  Rows q(count, heads, size), out(count, heads, v);
  Memory k(static_cast<size_t>(heads) * keys * sizes.size * 2, true);
  Memory values(static_cast<size_t>(heads) * keys * sizes.v * 2, true);
  flash_case(name + ", " + std::to_string(count) + " after " + std::to_string(past),
             2.0 * pairs(past, count) * heads * (size + v),
             {.out = out.view,
              .q = q.view,
              .k = k.data,
              .v = values.data,
              .bf16 = true,
              .groups = heads,
              .rows = count,
              .keys = keys,
              .padded_size = sizes.size,
              .padded_v = sizes.v,
              .causal = true,
              .past = past,
              .scale = 0.08f});
}

}  // namespace
}  // namespace vl2::cuda

int main(int argc, char** argv) {
  using namespace vl2::cuda;
  for (const int tiles : {4, 10}) flash_vision(tiles);
  flash_prompt("tiny", 10, 128, 128, 0, 2048);
  flash_prompt("tiny", 10, 128, 128, 0, 512);
  flash_prompt("tiny", 10, 128, 128, 1536, 512);
  flash_prompt("small", 16, 192, 128, 0, 2048);
  if (argc > 1 && std::strcmp(argv[1], "flash") == 0) return 0;
  for (const int tiles : {3, 10}) vision(tiles);
  tiny_prompt(0, 2048);
  tiny_prompt(1536, 512);
  for (const int heads : {16, 32}) {
    latent_prompt_case(heads, 0, 2048);
    latent_prompt_case(heads, 1536, 512);
  }
  for (const int sequences : {1, 16, 128})
    for (const int context : {1024, 4096}) {
      tiny_answers(sequences, context);
      latent_answers_case(16, sequences, context);
      latent_answers_case(32, sequences, context);
    }
  return 0;
}
