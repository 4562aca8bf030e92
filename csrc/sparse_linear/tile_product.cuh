// One tiled matrix product for y, dX and dW: 64 x 64 results a block, 32 deep, tensor cores for the 16-bit types.
// Operands are read through small loaders, which apply the mask; results leave through a writer. A block of y in which
// little is live multiplies just that: it looks for itself, so nothing is chosen ahead and nobody waits.
#pragma once

#include <mma.h>

#include <type_traits>

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

// Loaders read `kPack` neighbours, 16 bytes, at a time: at(row, column) and those that follow in memory. What lies
// outside is 0.
template <class T>
constexpr int kPack = 16 / sizeof(T);

template <class T>
struct Plain {
  const T* data;
  int64_t stride, rows, columns;
  bool aligned;  // address and stride: whole packs can be read at once

  __device__ void load(int64_t row, int64_t column, T (&to)[kPack<T>]) const {
    const T* from = data + row * stride + column;
    if (aligned && row < rows && column + kPack<T> <= columns) {
      *reinterpret_cast<int4*>(to) = *reinterpret_cast<const int4*>(from);
      return;
    }
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) to[i] = row < rows && column + i < columns ? from[i] : T(0.0f);
  }
};

template <class T>
struct Masked {
  Plain<T> values;
  Mask mask;

  __device__ void load(int64_t row, int64_t column, T (&to)[kPack<T>]) const {
    values.load(row, column, to);
    // Columns come in multiples of a pack, which a half word holds whole.
    const bool inside = row < values.rows && column < values.columns;
    const uint32_t bits = inside ? mask.bits[row * mask.halves + column / 32] >> (column % 32) : 0;
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i)
      if (!((bits >> i) & 1)) to[i] = T(0.0f);
  }
};

template <class Loader>
struct Transposed {
  Loader inner;
  template <class T>
  __device__ void load(int64_t row, int64_t column, T (&to)[kPack<T>]) const {
    inner.load(column, row, to);
  }
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
struct Panels {  // the pads keep the banks of neighbouring rows apart, and every pack on 16 bytes
  static constexpr int kPad = kPack<T>;
  T left[kTile][kDepth + kPad];
  T right[kDepth][kTile + kPad];
};
using Results = float[kTile][kTile + 4];

// The next panels on their way from memory, a share in each thread. The sum ends where the operands end, or at a
// multiple of kDepth: nothing of a panel lies behind the end of a part.
template <class T>
struct Ahead {
  static constexpr int kPacks = kTile * kDepth / kThreads / kPack<T>;
  alignas(16) T left[kPacks][kPack<T>], right[kPacks][kPack<T>];

  template <class Loader, int kRows, int kColumns>
  __device__ static void place(int i, int& row, int& column) {
    const int e = i * kThreads + threadIdx.x;
    constexpr int kAlong = (kRunsDown<Loader> ? kRows : kColumns) / kPack<T>;
    row = kRunsDown<Loader> ? e % kAlong * kPack<T> : e / kAlong;
    column = kRunsDown<Loader> ? e / kAlong : e % kAlong * kPack<T>;
  }
  template <class Left, class Right>
  __device__ void load(const Left& a, const Right& b, int64_t i0, int64_t j0, int64_t p0) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      int r, c;
      place<Left, kTile, kDepth>(i, r, c);
      a.load(i0 + r, p0 + c, left[i]);
      place<Right, kDepth, kTile>(i, r, c);
      b.load(p0 + r, j0 + c, right[i]);
    }
  }
  template <class Loader, int kRows, int kColumns, int kStride>
  __device__ static void put(const T (&from)[kPacks][kPack<T>], T (&to)[kRows][kStride]) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      int r, c;
      place<Loader, kRows, kColumns>(i, r, c);
      if constexpr (kRunsDown<Loader>) {
#pragma unroll
        for (int k = 0; k < kPack<T>; ++k) to[r + k][c] = from[i][k];
      } else {
        *reinterpret_cast<int4*>(&to[r][c]) = *reinterpret_cast<const int4*>(from[i]);
      }
    }
  }
  template <class Left, class Right>
  __device__ void put(Panels<T>& panels) const {
    put<Left, kTile, kDepth>(left, panels.left);
    put<Right, kDepth, kTile>(right, panels.right);
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

// 16 rows of results a warp, two neighbours a lane: the left panel is sparse, and only what is live in it is
// multiplied, by ordinary arithmetic.
template <class T>
struct Gathered {
  static constexpr int kRows = kTile / (kThreads / 32);
  float sum[kRows][2] = {};

  __device__ void add(const Panels<T>& panels) {
    const int first = threadIdx.x / 32 * kRows, lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // Dead elements are zeros; a live one may be NaN, which is not equal to 0.
      const float mine = widen(panels.left[first + r][lane]);
      for (unsigned live = __ballot_sync(~0u, mine != 0.0f); live != 0; live &= live - 1) {
        const int p = __ffs(live) - 1;
        const float value = __shfl_sync(~0u, mine, p);
        sum[r][0] += value * widen(panels.right[p][2 * lane]);
        sum[r][1] += value * widen(panels.right[p][2 * lane + 1]);
      }
    }
  }
  __device__ void put(Results& results) const {
    const int first = threadIdx.x / 32 * kRows, lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      for (int j = 0; j < 2; ++j) results[first + r][2 * lane + j] = sum[r][j];
  }
};
static_assert(kDepth == 32 && kTile == 64, "a lane has one step of the sum and two results");

// Whether fewer than `share` of rows [row, row + kTile) are live; the same for all threads.
__device__ inline bool few_live(const Mask& mask, int64_t row, int64_t rows, int64_t columns, float share) {
  __shared__ int live;
  if (threadIdx.x == 0) live = 0;
  __syncthreads();
  const int64_t halves = (columns + 31) / 32;
  int mine = 0;
  for (int64_t e = threadIdx.x; e < kTile * halves; e += kThreads) {
    const int64_t r = row + e / halves, h = e % halves, left = columns - h * 32;
    if (r >= rows) break;
    const uint32_t existing = left >= 32 ? ~0u : (1u << left) - 1;
    mine += __popc(mask.bits[r * mask.halves + h] & existing);
  }
  atomicAdd(&live, mine);
  __syncthreads();
  return static_cast<float>(live) < share * static_cast<float>(kTile) * static_cast<float>(columns);
}

// Blocks of y gather what is live where little of x is: `share` of its rows in this block.
struct NeverGather {
  __device__ bool gathers(int64_t) const { return false; }
};
struct GatherIfFew {
  Mask mask;
  int64_t rows, columns;
  float share;
  __device__ bool gathers(int64_t row) const { return share > 0.0f && few_live(mask, row, rows, columns, share); }
};

template <class T>
union Shared {
  Panels<T> panels;
  Results results;
};

template <class Accumulator, class T, class Left, class Right, class Live, class Writer>
__device__ void sum_tile(Shared<T>& shared, const Left& left, const Right& right, const Live& live,
                         const Writer& writer, int64_t i0, int64_t j0, int64_t begin, int64_t end, int64_t height,
                         int64_t width) {
  Accumulator sums;
  Ahead<T> ahead;
  const auto next_live = [&](int64_t p) {
    if constexpr (!std::is_same_v<Live, AlwaysLive>)
      while (p < end && !__syncthreads_or(live.live(threadIdx.x, i0, j0, p))) p += kDepth;
    return p;
  };
  int64_t p = next_live(begin);
  if (p < end) ahead.load(left, right, i0, j0, p);
  while (p < end) {
    ahead.template put<Left, Right>(shared.panels);
    __syncthreads();
    p = next_live(p + kDepth);
    if (p < end) ahead.load(left, right, i0, j0, p);
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

// result [height, width] = left [height, depth] x right [depth, width], the sum over depth in parts of `each`
// (a multiple of kDepth), one part for each blockIdx.z.
template <class T, class Left, class Right, class Live, class Gather, class Writer>
__global__ void __launch_bounds__(kThreads, 2) product(Left left, Right right, Live live, Gather gather, Writer writer,
                                                       int64_t height, int64_t width, int64_t depth, int64_t each) {
  alignas(128) __shared__ Shared<T> shared;  // tensor cores load from multiples of 32 bytes
  const int64_t i0 = static_cast<int64_t>(blockIdx.x) * kTile, j0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t begin = blockIdx.z * each, end = depth < begin + each ? depth : begin + each;
  if constexpr (!std::is_same_v<Gather, NeverGather>) {
    if (gather.gathers(i0))
      return sum_tile<Gathered<T>>(shared, left, right, live, writer, i0, j0, begin, end, height, width);
  }
  sum_tile<Sums<T>>(shared, left, right, live, writer, i0, j0, begin, end, height, width);
}

}  // namespace dmt::sparse_linear
