// Sums of |x| by the rule of reference.abs_sums: the 64 columns of a word are folded in the arithmetic of x, in halves,
// down to 8 sums, and these are added in float64, of which some processors have little.
#pragma once

#include "../cuda_common.h"

namespace dmt {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kColumns = 64;

template <typename T>
struct Arithmetic {
  using A = float;
};
template <>
struct Arithmetic<double> {
  using A = double;
};

// Sum over the block of two numbers, for every thread. All threads of the block take part.
__device__ inline double2 block_sum(double2 v) {
  __shared__ double2 of_warp[kWarps];
  for (int step = 16; step > 0; step /= 2) {
    v.x += __shfl_down_sync(~0u, v.x, step);
    v.y += __shfl_down_sync(~0u, v.y, step);
  }
  __syncthreads();  // the shared array may still be read from the call before
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  double2 total{0, 0};
  for (int w = 0; w < kWarps; ++w) {
    total.x += of_warp[w].x;
    total.y += of_warp[w].y;
  }
  return total;
}

// Folds a word of which each of 64 / kPack threads side by side has kPack neighbours, beginning with its own number
// times kPack. Of every eight of these threads, all in the end hold the same kPack of the word's eight sums.
template <typename A, int kPack>
__device__ inline void fold_word(A (&a)[kPack]) {
  constexpr int kSpan = kColumns / kPack;
#pragma unroll
  for (int step = kSpan / 2; step >= kSpan / 8; step /= 2) {
#pragma unroll
    for (int j = 0; j < kPack; ++j) a[j] += __shfl_xor_sync(~0u, a[j], step);
  }
}

// Sum of |x| over finite elements, and their number, of one block's share of x.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const T* __restrict__ x, int64_t rows, int64_t width, int64_t stride, double2* __restrict__ partial,
               unsigned* __restrict__ to_zero, int zeros) {
  using A = typename Arithmetic<T>::A;
  constexpr int kPack = 16 / sizeof(T), kSpan = kColumns / kPack;
  if (blockIdx.x == 0) {
    for (int i = threadIdx.x; i < zeros; i += kThreads) to_zero[i] = 0;
  }
  const bool packed = width % kPack == 0 && stride % kPack == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0;
  const int64_t words = (width + kColumns - 1) / kColumns, packs = rows * words * kSpan;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const int part = threadIdx.x % kSpan;
  double2 sum{0, 0};
  int64_t count = 0;
  // Whole warps go round together: every thread takes part in the folding.
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads; first < packs; first += threads) {
    const int64_t word = (first + threadIdx.x) / kSpan, row = word / words;
    const int64_t column = word % words * kColumns + part * kPack;
    T values[kPack];
    if (packed && row < rows && column < width) {
      const int4 raw = *reinterpret_cast<const int4*>(x + row * stride + column);
      memcpy(values, &raw, 16);
    } else {
#pragma unroll
      for (int j = 0; j < kPack; ++j)
        values[j] = row < rows && column + j < width ? x[row * stride + column + j] : narrow<T>(A(NAN));
    }
    A a[kPack];
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const A size = fabs(widen(values[j]));
      const bool finite = size - size == A(0);
      a[j] = finite ? size : A(0);
      count += finite;
    }
    fold_word(a);
    // Eight threads hold the same kPack sums: each adds one of them.
    A mine = 0;
#pragma unroll
    for (int j = 0; j < kPack; ++j) mine = part / (kSpan / 8) == j ? a[j] : mine;
    sum.x += static_cast<double>(mine);
  }
  sum.y = static_cast<double>(count);
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The sums of all blocks of sum_kernel; every thread has them.
__device__ inline double2 total_of(const double2* partial, int blocks) {
  double2 sum{0, 0};
  for (int i = threadIdx.x; i < blocks; i += kThreads) {
    sum.x += partial[i].x;
    sum.y += partial[i].y;
  }
  return block_sum(sum);
}

}  // namespace dmt
