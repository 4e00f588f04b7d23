// CUDA's words as plain C++, for the software device; read kernel_language.h instead.
//
// One thread of the system runs a whole launch, so static shared memory can be a static variable and the indices
// globals.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "engine/cuda/device/software_device.h"

// CUDA chose the names.
// NOLINTBEGIN(bugprone-reserved-identifier, bugprone-macro-parentheses)
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define VL2_UNROLL
#define VL2_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::vl2::cuda::software::dynamic_shared())

namespace vl2::cuda {

using software::blockDim;
using software::blockIdx;
using software::dim3;
using software::gridDim;
using software::threadIdx;

// --- vectors ---
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// --- arithmetic ---
template <typename A, typename B>
auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <typename A, typename B>
auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
// Through double: the library's fmaf is slow where the processor's own may not be used.
inline float fmaf(float x, float y, float z) {
  return static_cast<float>(static_cast<double>(x) * static_cast<double>(y) + static_cast<double>(z));
}
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) result |= static_cast<unsigned>(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
  return result;
}

// --- memory ---
template <typename T>
T __ldg(const T* p) {
  return *p;
}
template <typename T>
T __ldcs(const T* p) {
  return *p;
}
template <typename T>
T __ldcg(const T* p) {
  return *p;
}
template <typename T>
void __stcs(T* p, T value) {
  *p = value;
}
template <typename T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>, "sums of floats must have one order");
  return std::exchange(*p, static_cast<T>(*p + value));
}
template <typename T>
T atomicMax(T* p, std::type_identity_t<T> value) {
  return std::exchange(*p, std::max(*p, value));
}
template <typename T>
T atomicMin(T* p, std::type_identity_t<T> value) {
  return std::exchange(*p, std::min(*p, value));
}
template <typename T>
T atomicExch(T* p, std::type_identity_t<T> value) {
  return std::exchange(*p, value);
}
template <typename T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return *p == expected ? std::exchange(*p, value) : *p;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// --- threads that meet ---
inline void __syncthreads() { software::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  software::meet(software::Meeting::kSync, mask, nullptr, [](void* const*, unsigned) {});
}

namespace software {

template <typename T>
struct Shuffled {
  T value;
  int source;  // lane
  T result;
};

template <typename T>
T shuffle(Meeting kind, unsigned mask, T value, int source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  Shuffled<T> mine{value, source, value};
  meet(kind, mask, &mine, [](void* const* lanes, unsigned present) {
    for (int i = 0; i < 32; ++i) {
      if ((present >> i & 1) == 0) continue;
      auto* lane = static_cast<Shuffled<T>*>(lanes[i]);
      check_source(lane->source, present);
      lane->result = static_cast<Shuffled<T>*>(lanes[lane->source])->value;
    }
  });
  return mine.result;
}

inline int lane() { return static_cast<int>(thread_number() & 31); }

}  // namespace software

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int first = software::lane() & ~(width - 1);
  return software::shuffle(software::Meeting::kShuffle, mask, value, first + (source & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = software::lane(), source = lane ^ bits;
  // A source beyond the lane's part is the lane itself.
  const bool beyond = (source & ~(width - 1)) > (lane & ~(width - 1));
  return software::shuffle(software::Meeting::kShuffleXor, mask, value, beyond ? lane : source);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = software::lane(), source = lane + static_cast<int>(by);
  const bool beyond = (lane & (width - 1)) + static_cast<int>(by) >= width;
  return software::shuffle(software::Meeting::kShuffleDown, mask, value, beyond ? lane : source);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = software::lane(), source = lane - static_cast<int>(by);
  const bool beyond = (lane & (width - 1)) < static_cast<int>(by);
  return software::shuffle(software::Meeting::kShuffleUp, mask, value, beyond ? lane : source);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  struct Ballot {
    bool yes;
    unsigned result;
  } mine{predicate != 0, 0};
  software::meet(software::Meeting::kBallot, mask, &mine, [](void* const* lanes, unsigned present) {
    unsigned result = 0;
    for (int i = 0; i < 32; ++i)
      if ((present >> i & 1) != 0 && static_cast<Ballot*>(lanes[i])->yes) result |= 1u << i;
    for (int i = 0; i < 32; ++i)
      if ((present >> i & 1) != 0) static_cast<Ballot*>(lanes[i])->result = result;
  });
  return mine.result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

// --- launches ---
// One kernel after the other; but whoever may begin early must wait.
template <bool early = false, typename... Params, typename... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Stream, Args&&... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<std::decay_t<Params>...> params;
  } call{kernel, {static_cast<Params>(args)...}};
  software::do_or_record([=] {
    software::run(
        name, grid, block, shared,
        [](const void* c) {
          software::begin_thread();
          std::apply(static_cast<const Call*>(c)->kernel, static_cast<const Call*>(c)->params);
          if (early) software::check_waited();
        },
        &call);
  });
}
template <typename... Params, typename... Args>
void launch_early(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Stream stream,
                  Args&&... args) {
  launch<true>(name, kernel, grid, block, shared, stream, std::forward<Args>(args)...);
}
inline void prefetch(const void*) {}
inline void await_earlier_kernels() { software::wait_for_earlier(); }

// NOLINTEND(bugprone-reserved-identifier, bugprone-macro-parentheses)

}  // namespace vl2::cuda
