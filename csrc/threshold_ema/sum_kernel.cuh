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

// Neighbours that one access of 16 bytes fetches, and threads side by side that a word of 64 columns takes.
template <typename T>
constexpr int kPack = 16 / sizeof(T);
template <typename T>
constexpr int kSpan = kColumns / kPack<T>;

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

// Folds a word of which thread `part` of its kSpan has the neighbours `a`. Two threads that meet share what is left of
// the columns, so that in the end each has one of the word's eight sums, or 0 where another thread returns it.
template <typename A, int kCount>
__device__ inline A fold_word(A (&a)[kCount], int part) {
  constexpr int kThreadsOfWord = kColumns / kCount;
  bool mine = true;
  int left = kCount;
#pragma unroll
  for (int step = kThreadsOfWord / 2; step >= kThreadsOfWord / 8; step /= 2) {
    const bool upper = part & step;
    if (left == 1) {
      a[0] += __shfl_xor_sync(~0u, a[0], step);
      mine = mine && !upper;
      continue;
    }
    left /= 2;
#pragma unroll
    for (int j = 0; j < kCount / 2; ++j) {
      if (j >= left) break;
      const A sent = upper ? a[j] : a[j + left], kept = upper ? a[j + left] : a[j];
      a[j] = kept + __shfl_xor_sync(~0u, sent, step);
    }
  }
  return mine ? a[0] : A(0);
}

// What a thread has seen of x: the sum of |x| over finite elements, and their number.
struct Seen {
  double sum = 0;
  int count = 0;

  // One pack, of which the first `there` elements exist and the others are 0. Whole warps go round together.
  template <typename T>
  __device__ void add(const int4& pack, int there, int part) {
    using A = typename Arithmetic<T>::A;
    T values[kPack<T>];
    memcpy(values, &pack, 16);
    A a[kPack<T>], all = 0;
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) all += a[j] = fabs(widen(values[j]));
    if (!(all - all == A(0))) {  // something is not finite, or the sum of the pack is not
#pragma unroll
      for (int j = 0; j < kPack<T>; ++j) {
        const bool finite = a[j] - a[j] == A(0);
        a[j] = finite ? a[j] : A(0);
        there -= !finite;
      }
    }
    count += there;
    sum += static_cast<double>(fold_word(a, part));
  }
  __device__ double2 of_block() const { return block_sum({sum, static_cast<double>(count)}); }
};

// Up to a pack of neighbours, `there` of them; zeros after them. whole: all at once.
template <typename T>
__device__ inline int4 load_pack(const T* from, int there, bool whole) {
  if (whole) return *reinterpret_cast<const int4*>(from);
  int4 pack{0, 0, 0, 0};
  T values[kPack<T>];
  memcpy(values, &pack, 16);
#pragma unroll
  for (int j = 0; j < kPack<T>; ++j)
    if (j < there) values[j] = from[j];
  memcpy(&pack, values, 16);
  return pack;
}

// How many of the kPack columns from `column` on exist.
template <typename T>
__device__ inline int existing(int64_t column, int64_t width) {
  const int64_t left = width - column;
  return left >= kPack<T> ? kPack<T> : left > 0 ? static_cast<int>(left) : 0;
}

template <typename T>
__device__ inline bool is_packed(const T* x, int64_t stride) {
  return stride % kPack<T> == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0;
}

// Sum of |x| over finite elements, and their number, of one block's share of x.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const T* __restrict__ x, int64_t rows, int64_t width, int64_t stride, double2* __restrict__ partial) {
  const bool packed = is_packed(x, stride);
  const int64_t words = (width + kColumns - 1) / kColumns, packs = rows * words * kSpan<T>;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const int part = threadIdx.x % kSpan<T>;
  Seen seen;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads; first < packs; first += threads) {
    const int64_t word = (first + threadIdx.x) / kSpan<T>, row = word / words;
    const int64_t column = word % words * kColumns + part * kPack<T>;
    const int there = row < rows ? existing<T>(column, width) : 0;
    seen.add<T>(load_pack(x + row * stride + column, there, packed && there == kPack<T>), there, part);
  }
  const double2 sum = seen.of_block();
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The sums of all blocks; every thread has them.
__device__ inline double2 total_of(const double2* partial, int blocks) {
  double2 sum{0, 0};
  for (int i = threadIdx.x; i < blocks; i += kThreads) {
    sum.x += partial[i].x;
    sum.y += partial[i].y;
  }
  return block_sum(sum);
}

}  // namespace dmt
