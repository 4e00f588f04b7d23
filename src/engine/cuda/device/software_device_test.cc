#include "engine/cuda/device/software_device.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/device/reduce.h"
#include "engine/cuda/device/warpgroup.h"

namespace vl2::cuda {
namespace {

__global__ void number_kernel(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += static_cast<int>(block * 1000 + thread);
}

TEST(SoftwareDevice, RunsEveryThreadOfEveryBlockOnce) {
  const int threads = 8 * 4 * 3, blocks = 2 * 3 * 2;
  std::vector<int> out(threads * blocks);
  VL2_LAUNCH(number_kernel, dim3(2, 3, 2), dim3(8, 4, 3), 0, nullptr, out.data());
  for (int i = 0; i < threads * blocks; ++i) EXPECT_EQ(out[i], i / threads * 1000 + i % threads);
}

// Reversed through shared memory, sums by shuffles, with a loop of barriers.
template <int rounds>
__global__ void __launch_bounds__(96) reverse_kernel(float* out, const float* in, unsigned* ballot) {
  VL2_DYNAMIC_SHARED(float, tile);
  __shared__ __align__(16) float scratch[32];
  for (int i = 0; i < rounds; ++i) {
    tile[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    const float value = tile[blockDim.x - 1 - threadIdx.x];
    const float sum = block_sum(value, scratch), largest = block_max(value, scratch);
    out[blockIdx.x * blockDim.x + threadIdx.x] = value + 1000 * sum + 100000 * largest;
    const unsigned odd = __ballot_sync(kAllLanes, static_cast<int>(value) % 2);
    if (threadIdx.x == 0) ballot[blockIdx.x] = odd;
    __syncthreads();
  }
}

TEST(SoftwareDevice, ThreadsMeetInSharedMemoryAndShuffles) {
  std::vector<float> in(96 * 2), out(96 * 2);
  std::iota(in.begin(), in.end(), 0.0f);
  std::vector<unsigned> ballot(2);
  VL2_LAUNCH((reverse_kernel<3>), 2, 96, 96 * sizeof(float), nullptr, out.data(), in.data(), ballot.data());
  for (int b = 0; b < 2; ++b) {
    EXPECT_EQ(ballot[b], 0x55555555u);
    for (int t = 0; t < 96; ++t) {
      const int sum = 96 * 95 / 2 + b * 96 * 96, largest = b * 96 + 95;
      EXPECT_EQ(out[b * 96 + t], static_cast<float>(b * 96 + 95 - t) + 1000.0f * static_cast<float>(sum) +
                                     100000.0f * static_cast<float>(largest));
    }
  }
}

__global__ void shuffle_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  out[lane] = __shfl_down_sync(kAllLanes, lane, 3, 8);
  out[32 + lane] = __shfl_up_sync(kAllLanes, lane, 3, 8);
  out[64 + lane] = __shfl_sync(kAllLanes, lane, 5, 8);
  out[96 + lane] = __shfl_xor_sync(kAllLanes, lane, 17);
  if (lane < 16) out[128 + lane] = __shfl_xor_sync(0xffffu, lane, 1);
}

TEST(SoftwareDevice, ShufflesMoveAsInCuda) {
  std::vector<int> out(144);
  VL2_LAUNCH(shuffle_kernel, 1, 32, 0, nullptr, out.data());
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(out[i], i % 8 + 3 < 8 ? i + 3 : i);
    EXPECT_EQ(out[32 + i], i % 8 >= 3 ? i - 3 : i);
    EXPECT_EQ(out[64 + i], i / 8 * 8 + 5);
    EXPECT_EQ(out[96 + i], i ^ 17);
  }
  for (int i = 0; i < 16; ++i) EXPECT_EQ(out[128 + i], i ^ 1);
}

// out [16, 8] = a [16, 16] b [16, 8], all fragments by ldmatrix.
__global__ void product_kernel(float* out, const uint16_t* a, const uint16_t* b) {
  __shared__ __align__(16) uint16_t rows[16][24], columns[16][8];
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  async_copy16(&rows[lane / 2][lane % 2 * 8], a + lane * 8);
  async_copy16(&columns[lane % 16], b + lane % 16 * 8, lane < 16 || lane >= 16);
  async_commit();
  async_wait<0>();
  __syncthreads();
  unsigned fa[4], fb[2];
  load_matrix_x4(fa, &rows[lane % 16][lane / 16 * 8]);
  load_matrix_x2_trans(fb, &columns[lane % 16]);
  float c[4] = {1, 1, 1, 1};
  mma_bf16(c, fa, fb);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
}

TEST(SoftwareDevice, MultipliesFragments) {
  Random random(1);
  alignas(16) uint16_t a[16 * 16], b[16 * 8];
  for (uint16_t& x : a) x = to_bf16(static_cast<float>(random.below(16))).bits;
  for (uint16_t& x : b) x = to_bf16(static_cast<float>(random.below(16))).bits;
  std::vector<float> out(16 * 8);
  VL2_LAUNCH(product_kernel, 1, 32, 0, nullptr, out.data(), a, b);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float sum = 1;
      for (int k = 0; k < 16; ++k) sum += to_float(BF16{a[i * 16 + k]}) * to_float(BF16{b[k * 8 + j]});
      EXPECT_EQ(out[i * 8 + j], sum);
    }
}

__global__ void waiting_kernel(int threads) {
  if (static_cast<int>(threadIdx.x) < threads) await_earlier_kernels();
}

TEST(SoftwareDevice, EarlyKernelsWaitInEveryThread) {
  VL2_LAUNCH_EARLY(waiting_kernel, 2, 64, 0, nullptr, 64);
  try {
    VL2_LAUNCH_EARLY(waiting_kernel, 2, 64, 0, nullptr, 63);
    FAIL() << "a thread that does not wait went by";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("waited 0 times"), std::string::npos) << e.what();
  }
}

// out [64, 32] = 1 + a [64, 64] times b [32, 64] transposed; `wait` before one of the tiles is copied to again.
__global__ void warpgroup_kernel(float* out, const uint16_t* a, const uint16_t* b, bool wait) {
  VL2_DYNAMIC_SHARED(unsigned char, dynamic);
  unsigned char* left = dynamic + (kTileAlignment - shared_address(dynamic) % kTileAlignment) % kTileAlignment;
  unsigned char* right = left + 64 * kTileRowBytes;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  for (int i = thread; i < 64 * 8; i += 128) async_copy16(tile_piece(left, i / 8, i % 8), a + i * 8);
  for (int i = thread; i < 32 * 8; i += 128) async_copy16(tile_piece(right, i / 8, i % 8), b + i * 8);
  async_commit();
  async_wait<0>();
  tiles_written();
  __syncthreads();
  float c[16];
  for (float& x : c) x = 1;
  warpgroup_begin();
  for (int k = 0; k < 64; k += 16) warpgroup_multiply<32>(c, tile_descriptor(left, 0, k), tile_descriptor(right, 0, k));
  warpgroup_commit();
  if (wait) warpgroup_wait<0>();
  async_copy16(tile_piece(right, thread % 32, 0), b);
  async_commit();
  async_wait<0>();
  for (int i = 0; i < 16; ++i) out[(warp * 16 + g + i % 4 / 2 * 8) * 32 + i / 4 * 8 + t * 2 + i % 2] = c[i];
}

TEST(SoftwareDevice, MultipliesTilesOfAWarpgroup) {
  Random random(2);
  alignas(16) uint16_t a[64 * 64], b[32 * 64];
  for (uint16_t& x : a) x = to_bf16(static_cast<float>(random.below(16))).bits;
  for (uint16_t& x : b) x = to_bf16(static_cast<float>(random.below(16))).bits;
  std::vector<float> out(64 * 32);
  constexpr size_t kBytes = 96 * kTileRowBytes + kTileAlignment;
  VL2_LAUNCH(warpgroup_kernel, 1, 128, kBytes, nullptr, out.data(), a, b, true);
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < 32; ++j) {
      float sum = 1;
      for (int k = 0; k < 64; ++k) sum += to_float(BF16{a[i * 64 + k]}) * to_float(BF16{b[j * 64 + k]});
      EXPECT_EQ(out[i * 32 + j], sum);
    }
  EXPECT_THROW(VL2_LAUNCH(warpgroup_kernel, 1, 128, kBytes, nullptr, out.data(), a, b, false), Error);
}

__global__ void lost_barrier_kernel() {
  if (threadIdx.x < 32) __syncthreads();
}
__global__ void lost_lane_kernel(float* out) {
  if (threadIdx.x != 7) out[threadIdx.x] = warp_sum(1.0f);
}
__global__ void mixed_kernel() {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    __ballot_sync(kAllLanes, 1);
}
__global__ void overrun_kernel() {
  VL2_DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x] = 1.0f;
}
__global__ void unfinished_copy_kernel(float* out, const float* in) {
  __shared__ __align__(16) float tile[4];
  if (threadIdx.x == 0) {
    tile[0] = -1.0f;
    async_copy16(tile, in);
    async_commit();
    out[0] = tile[0];
    async_wait<0>();
    out[1] = tile[0];
  }
}

TEST(SoftwareDevice, RefusesWhatCudaLeavesUndefined) {
  std::vector<float> out(64);
  for (int again = 0; again < 2; ++again) {  // and goes on working afterwards
    EXPECT_THROW(VL2_LAUNCH(lost_barrier_kernel, 1, 64, 0, nullptr), Error);
    EXPECT_THROW(VL2_LAUNCH(lost_lane_kernel, 1, 32, 0, nullptr, out.data()), Error);
    EXPECT_THROW(VL2_LAUNCH(mixed_kernel, 1, 32, 0, nullptr), Error);
    EXPECT_THROW(VL2_LAUNCH(overrun_kernel, 1, 64, 63 * sizeof(float), nullptr), Error);
    EXPECT_THROW(VL2_LAUNCH(overrun_kernel, 1, 33, 256, nullptr), Error);
    EXPECT_THROW(VL2_LAUNCH(overrun_kernel, 1, 2048, 8192, nullptr), Error);
    EXPECT_THROW(VL2_LAUNCH(overrun_kernel, dim3(1, 65536), 64, 256, nullptr), Error);
    EXPECT_NO_THROW(VL2_LAUNCH(overrun_kernel, 3, 64, 256, nullptr));
  }
}

TEST(SoftwareDevice, CopiesArriveWhenTheyAreWaitedFor) {
  alignas(16) float in[4] = {5, 6, 7, 8};
  std::vector<float> out(2);
  VL2_LAUNCH(unfinished_copy_kernel, 1, 32, 0, nullptr, out.data(), in);
  EXPECT_EQ(out[0], -1.0f);
  EXPECT_EQ(out[1], 5.0f);
}

}  // namespace
}  // namespace vl2::cuda
