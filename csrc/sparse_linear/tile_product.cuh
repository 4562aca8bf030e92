// One tiled matrix product for y, dX and dW: 64 x 64 results a block, 32 deep, tensor cores for the 16-bit types.
// Operands are read through small loaders, which apply the mask; results leave through a writer.
#pragma once

#include <mma.h>

#include "../cuda_common.h"

namespace dmt::sparse_linear {

constexpr int kTile = 64, kDepth = 32, kThreads = 128;

// A mask as halves of its words: 32 columns each, lower half first.
struct Mask {
  const uint32_t* bits;
  int64_t halves;  // of one row

  __device__ bool at(int64_t row, int64_t column) const {
    return (bits[row * halves + column / 32] >> (column % 32)) & 1;
  }
};

template <class T>
struct Plain {
  const T* data;
  int64_t stride, rows, columns;

  __device__ T at(int64_t row, int64_t column) const {
    return row < rows && column < columns ? data[row * stride + column] : T(0.0f);
  }
};

template <class T>
struct Masked {
  Plain<T> values;
  Mask mask;

  __device__ T at(int64_t row, int64_t column) const {
    const bool live = row < values.rows && column < values.columns && mask.at(row, column);
    return live ? values.data[row * values.stride + column] : T(0.0f);
  }
};

template <class Loader>
struct Transposed {
  Loader inner;
  __device__ auto at(int64_t row, int64_t column) const { return inner.at(column, row); }
};

// Which way memory runs: neighbouring threads read neighbouring addresses.
template <class Loader>
constexpr bool kRunsDown = false;
template <class Loader>
constexpr bool kRunsDown<Transposed<Loader>> = true;

// Says whether a step of the sum can contribute; asked only where the mask is structured.
struct LiveSquare {
  Mask mask;
  int64_t rows, columns;

  // Thread t looks at one row of the square [row, row + height) x [column, column + width); column % 32 == 0.
  __device__ bool any(int t, int64_t row, int height, int64_t column, int width) const {
    bool live = false;
    if (t < height && row + t < rows)
      for (int64_t c = column; c < column + width && c < columns; c += 32)
        live |= mask.bits[(row + t) * mask.halves + c / 32] != 0;
    return live;
  }
};
struct LeftIsMasked : LiveSquare {  // y
  __device__ bool live(int t, int64_t i, int64_t, int64_t p) const { return any(t, i, kTile, p, kDepth); }
};
struct RightIsMasked : LiveSquare {  // dW
  __device__ bool live(int t, int64_t, int64_t j, int64_t p) const { return any(t, p, kDepth, j, kTile); }
};
struct ResultIsMasked : LiveSquare {  // dX
  __device__ bool live(int t, int64_t i, int64_t j, int64_t) const { return any(t, i, kTile, j, kTile); }
};
struct AlwaysLive {};

template <class T>
struct Panels {  // the pads keep the banks of neighbouring rows apart
  static constexpr int kPad = 16 / sizeof(T);
  T left[kTile][kDepth + kPad];
  T right[kDepth][kTile + kPad];
};
using Results = float[kTile][kTile + 4];

// The next panels on their way from memory, a share in each thread.
template <class T>
struct Ahead {
  static constexpr int kShare = kTile * kDepth / kThreads;
  T left[kShare], right[kShare];

  template <class Loader, int kRows, int kColumns>
  __device__ static void place(int i, int& row, int& column) {
    const int e = i * kThreads + threadIdx.x;
    row = kRunsDown<Loader> ? e % kRows : e / kColumns;
    column = kRunsDown<Loader> ? e / kRows : e % kColumns;
  }
  template <class Left, class Right>
  __device__ void load(const Left& a, const Right& b, int64_t i0, int64_t j0, int64_t p0, int64_t end) {
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      int r, c;
      place<Left, kTile, kDepth>(i, r, c);
      left[i] = p0 + c < end ? a.at(i0 + r, p0 + c) : T(0.0f);
      place<Right, kDepth, kTile>(i, r, c);
      right[i] = p0 + r < end ? b.at(p0 + r, j0 + c) : T(0.0f);
    }
  }
  template <class Left, class Right>
  __device__ void put(Panels<T>& panels) const {
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      int r, c;
      place<Left, kTile, kDepth>(i, r, c);
      panels.left[r][c] = left[i];
      place<Right, kDepth, kTile>(i, r, c);
      panels.right[r][c] = right[i];
    }
  }
};

// 32 x 32 results a warp on tensor cores.
template <class T>
struct Sums {
  using Fragment = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
  Fragment sum[2][2];

  __device__ Sums() {
    for (auto& row : sum)
      for (auto& f : row) nvcuda::wmma::fill_fragment(f, 0.0f);
  }
  __device__ void add(const Panels<T>& panels) {
    namespace w = nvcuda::wmma;
    const int warp = threadIdx.x / 32, row = warp / 2 * 32, column = warp % 2 * 32;
#pragma unroll
    for (int p = 0; p < kDepth; p += 16) {
      w::fragment<w::matrix_a, 16, 16, 16, T, w::row_major> a[2];
      w::fragment<w::matrix_b, 16, 16, 16, T, w::row_major> b[2];
      for (int i = 0; i < 2; ++i) {
        w::load_matrix_sync(a[i], &panels.left[row + 16 * i][p], kDepth + Panels<T>::kPad);
        w::load_matrix_sync(b[i], &panels.right[p][column + 16 * i], kTile + Panels<T>::kPad);
      }
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j) w::mma_sync(sum[i][j], a[i], b[j], sum[i][j]);
    }
  }
  __device__ void put(Results& results) const {
    const int warp = threadIdx.x / 32, row = warp / 2 * 32, column = warp % 2 * 32;
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j)
        nvcuda::wmma::store_matrix_sync(&results[row + 16 * i][column + 16 * j], sum[i][j], kTile + 4,
                                        nvcuda::wmma::mem_row_major);
  }
};

// 8 x 4 results a thread in full float32.
template <>
struct Sums<float> {
  float sum[8][4] = {};

  __device__ void add(const Panels<float>& panels) {
    const int row = threadIdx.x / 16 * 8, column = threadIdx.x % 16 * 4;
#pragma unroll 8
    for (int p = 0; p < kDepth; ++p) {
      float b[4];
      for (int j = 0; j < 4; ++j) b[j] = panels.right[p][column + j];
      for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 4; ++j) sum[i][j] += panels.left[row + i][p] * b[j];
    }
  }
  __device__ void put(Results& results) const {
    const int row = threadIdx.x / 16 * 8, column = threadIdx.x % 16 * 4;
    for (int i = 0; i < 8; ++i)
      for (int j = 0; j < 4; ++j) results[row + i][column + j] = sum[i][j];
  }
};

// result [height, width] = left [height, depth] x right [depth, width], the sum over depth in parts of `each`
// (a multiple of kDepth), one part for each blockIdx.z.
template <class T, class Left, class Right, class Live, class Writer>
__global__ void __launch_bounds__(kThreads) product(Left left, Right right, Live live, Writer writer, int64_t height,
                                                    int64_t width, int64_t depth, int64_t each) {
  __shared__ union {
    Panels<T> panels;
    Results results;
  } shared;
  const int64_t i0 = static_cast<int64_t>(blockIdx.x) * kTile, j0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t begin = blockIdx.z * each, end = depth < begin + each ? depth : begin + each;
  Sums<T> sums;
  Ahead<T> ahead;
  const auto next_live = [&](int64_t p) {
    if constexpr (!std::is_same_v<Live, AlwaysLive>)
      while (p < end && !__syncthreads_or(live.live(threadIdx.x, i0, j0, p))) p += kDepth;
    return p;
  };
  int64_t p = next_live(begin);
  if (p < end) ahead.load(left, right, i0, j0, p, end);
  while (p < end) {
    ahead.template put<Left, Right>(shared.panels);
    __syncthreads();
    p = next_live(p + kDepth);
    if (p < end) ahead.load(left, right, i0, j0, p, end);
    sums.add(shared.panels);
    __syncthreads();
  }
  sums.put(shared.results);
  __syncthreads();
  for (int e = threadIdx.x; e < kTile * kTile; e += kThreads) {
    const int64_t i = i0 + e / kTile, j = j0 + e % kTile;
    if (i < height && j < width) writer.write(i, j, shared.results[e / kTile][e % kTile]);
  }
}

}  // namespace dmt::sparse_linear
