// Products of small matrices by a warp, and what feeds them (sm_80 and up). Every lane of the warp calls these.
//
// Fragments of mma m16n8k16, with g = lane / 4 and t = lane % 4; a word is a pair of bfloat16, the lower one first:
//   A [16, 16]  a[0] (g, 2t..)   a[1] (g + 8, 2t..)   a[2] (g, 2t + 8..)   a[3] (g + 8, 2t + 8..)
//   B [16, 8]   b[0] (k = 2t.., n = g)   b[1] (k = 2t + 8.., n = g)
//   C [16, 8]   c[0..1] (g, 2t..)   c[2..3] (g + 8, 2t..)
#pragma once

#include "engine/cuda/device/kernel_language.h"

namespace vl2::cuda {

#ifdef __CUDACC__

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// c += A B, sums in float32.
__device__ __forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four (two) 8 x 8 matrices of 16-bit values from shared memory: lane 8 i + r gives the address of row r of matrix i
// (16 bytes, aligned), and m[i] becomes (g, 2t..) of matrix i; of its transpose with _trans.
__device__ __forceinline__ void load_matrix_x4(unsigned (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrix_x4_trans(unsigned (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrix_x2(unsigned (&m)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(m[0]), "=r"(m[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrix_x2_trans(unsigned (&m)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(m[0]), "=r"(m[1])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes from global to shared memory, both aligned, there after async_wait; zeros where not `valid` (then `from` is
// not read, but must still be an address).
__device__ __forceinline__ void async_copy16(void* to, const void* from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
// Ends a group of copies. async_wait<n> waits for all of this thread's groups but the newest n; a barrier must follow
// before other threads read.
__device__ __forceinline__ void async_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }
template <int newest>
__device__ __forceinline__ void async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(newest) : "memory");
}

#else

namespace software {
void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
void load_matrix(unsigned* m, const void* row, int count, bool transposed);
}  // namespace software

using software::mma_bf16;
inline void load_matrix_x4(unsigned (&m)[4], const void* row) { software::load_matrix(m, row, 4, false); }
inline void load_matrix_x4_trans(unsigned (&m)[4], const void* row) { software::load_matrix(m, row, 4, true); }
inline void load_matrix_x2(unsigned (&m)[2], const void* row) { software::load_matrix(m, row, 2, false); }
inline void load_matrix_x2_trans(unsigned (&m)[2], const void* row) { software::load_matrix(m, row, 2, true); }
inline void async_copy16(void* to, const void* from, bool valid = true) {
  software::async_copy(to, from, valid ? 16 : 0, valid ? 0 : 16);
}
inline void async_commit() { software::async_commit(); }
template <int newest>
void async_wait() {
  software::async_wait(newest);
}

#endif

}  // namespace vl2::cuda
