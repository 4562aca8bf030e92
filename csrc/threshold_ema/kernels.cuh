// Device code of threshold_ema. A block works on one strip of 64 columns, the columns of one word, and a run of rows;
// a warp takes whole words: lane l has columns l and l + 32. Sums are kept per block and added in the order of the
// blocks by whichever block finishes last, so results do not depend on scheduling.
#pragma once

#include "arithmetic.h"
#include "sum_kernel.cuh"

namespace dmt {

constexpr int kReduceBlocks = 512;

struct Theta {
  const void* data;
  bool wide;         // float64, otherwise float32
  bool per_feature;  // [D], otherwise one number
  __device__ double at(int64_t column) const {
    const int64_t i = per_feature ? column : 0;
    return wide ? static_cast<const double*>(data)[i] : static_cast<double>(static_cast<const float*>(data)[i]);
  }
};

// True in every thread of the block that is the last of `blocks` to come here; it sees what the others wrote.
__device__ inline bool last_to_arrive(unsigned* ticket, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(ticket, 1u) == blocks - 1;
  __syncthreads();
  if (last) __threadfence();
  return last;
}

// Tickets and the live count, all zero before the mask kernel starts.
struct Counters {
  unsigned long long* live;
  unsigned* tickets;  // one per strip, and one for the strips that are done
};

__global__ void __launch_bounds__(kThreads) finish_sums_kernel(const double2* partial, int blocks, double* out) {
  const double2 total = total_of(partial, blocks);
  if (threadIdx.x == 0) {
    out[0] = total.x;
    out[1] = total.y;
  }
}

template <typename T>
struct MaskArguments {
  const T* x;
  Theta theta;
  const float* state;
  const double2* sums;  // of `sum_blocks` blocks; null: mu stays
  int sum_blocks;
  double alpha;
  int64_t rows, width, stride, words;
  T* values;  // or null
  unsigned long long* bits;
  float* live;
  void* divergence;  // A
  float* next;
  void* statistics;  // A [4, width], or null: no information term
  double* partial;   // [row blocks][kSums][64 * words]
  double* strip;     // [words]: each strip's part of eq. 10
  Counters counters;
};

// mu of this step; every thread has it, block (0, 0) writes the state.
template <typename T>
__device__ float take_step(const MaskArguments<T>& a) {
  __shared__ float next[kStateSize];
  double2 total{0, 0};
  if (a.sums) total = total_of(a.sums, a.sum_blocks);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStateSize; ++i) next[i] = a.state[i];
    if (a.sums) {
      float moved[kStateSize];
      next_state(next, total.x, total.y, a.alpha, moved);
      for (int i = 0; i < kStateSize; ++i) next[i] = moved[i];
    }
    if (blockIdx.x == 0 && blockIdx.y == 0) {
      for (int i = 0; i < kStateSize; ++i) a.next[i] = next[i];
    }
  }
  __syncthreads();
  return next[0];
}

// Thresholds of the block's 64 columns; past the width nothing is live.
template <typename A>
__device__ void load_thresholds(const Theta& theta, double mu, int64_t column, int64_t width, A* shared) {
  __shared__ double one;
  if (!theta.per_feature) {
    if (threadIdx.x == 0) one = sigmoid(theta.at(0)) * mu;
    __syncthreads();
  }
  if (threadIdx.x < kColumns) {
    const int64_t c = column + threadIdx.x;
    const bool exists = c < width;
    const double t = !theta.per_feature ? one : exists ? sigmoid(theta.at(c)) * mu : 0.0;
    shared[threadIdx.x] = static_cast<A>(t);
  }
  __syncthreads();
}

// Per-column sums of the warps of a block, [kinds][64] from each thread's [kinds][2], to `out` [kinds][padded].
template <int kKinds, typename A>
__device__ void store_column_sums(const A (&mine)[kKinds][2], double* out, int64_t padded) {
  __shared__ A of_warp[kWarps][kKinds][kColumns];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int k = 0; k < kKinds; ++k) {
    of_warp[warp][k][lane] = mine[k][0];
    of_warp[warp][k][lane + 32] = mine[k][1];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kKinds * kColumns; i += kThreads) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += static_cast<double>(of_warp[w][i / kColumns][i % kColumns]);
    out[i / kColumns * padded + i % kColumns] = sum;
  }
}

// The last block of a strip turns its sums into statistics and its part of eq. 10.
template <typename T>
__device__ void finish_strip(const MaskArguments<T>& a, int64_t column) {
  using A = typename Arithmetic<T>::A;
  const int64_t padded = a.words * kColumns, c = column + threadIdx.x;
  double part = 0;
  if (threadIdx.x < kColumns && c < a.width) {
    double sums[kSums] = {}, m[4];
    for (unsigned b = 0; b < gridDim.y; ++b) {
      for (int k = 0; k < kSums; ++k) sums[k] += a.partial[(static_cast<int64_t>(b) * kSums + k) * padded + c];
    }
    const double shift = a.rows > 0 ? static_cast<double>(widen(a.x[c])) : 0.0;
    moments(sums, shift, static_cast<double>(a.rows), m);
    for (int k = 0; k < 4; ++k) static_cast<A*>(a.statistics)[k * a.width + c] = static_cast<A>(m[k]);
    part = divergence(m[0], m[1], m[2], m[3]);
  }
  part = block_sum({part, 0}).x;
  if (threadIdx.x == 0) a.strip[column / kColumns] = part;
}

// float64 keeps its sums in registers at the price of fewer blocks on a multiprocessor.
template <typename T, bool kInformation>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 4) mask_kernel(const MaskArguments<T> a) {
  using A = typename Arithmetic<T>::A;
  __shared__ A bounds[kColumns];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns;
  const int64_t begin = a.rows * blockIdx.y / gridDim.y, end = a.rows * (blockIdx.y + 1) / gridDim.y;
  load_thresholds(a.theta, take_step(a), column, a.width, bounds);
  A bound[2], shift[2], sums[kSums][2] = {};
  bool exists[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t c = column + lane + 32 * h;
    exists[h] = c < a.width;
    bound[h] = bounds[lane + 32 * h];
    shift[h] = kInformation && exists[h] && a.rows > 0 ? widen(a.x[c]) : A(0);
  }
  unsigned long long count = 0;
  // Several rows are on their way before the first is used: what is stored could otherwise hold up the next load.
  constexpr int kAhead = kInformation ? 2 : 4;
  for (int64_t first = begin + warp; first < end; first += kAhead * kWarps) {
    T raw[kAhead][2];
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      const int64_t row = first + r * kWarps;
#pragma unroll
      for (int h = 0; h < 2; ++h)
        raw[r][h] = exists[h] && row < end ? a.x[row * a.stride + column + lane + 32 * h] : narrow<T>(A(0));
    }
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      const int64_t row = first + r * kWarps;
      if (row >= end) break;  // the same for the whole warp
      unsigned halves[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const A value = widen(raw[r][h]);
        const bool live = fabs(value) > bound[h];
        halves[h] = __ballot_sync(~0u, live);
        if (a.values && exists[h])
          a.values[row * a.width + column + lane + 32 * h] = live ? raw[r][h] : narrow<T>(A(0));
        if (kInformation) {
          const A d = exists[h] ? value - shift[h] : A(0), e = live ? d : A(0);
          sums[0][h] += d;
          sums[1][h] += d * d;
          sums[2][h] += e;
          sums[3][h] += e * e;
          sums[4][h] += live ? A(1) : A(0);
        }
      }
      if (lane == 0) {
        const unsigned long long word = (static_cast<unsigned long long>(halves[1]) << 32) | halves[0];
        a.bits[row * a.words + blockIdx.x] = word;
        count += __popcll(word);
      }
    }
  }
  if (lane == 0 && count) atomicAdd(a.counters.live, count);
  if (kInformation) {
    const int64_t padded = a.words * kColumns;
    store_column_sums<kSums>(sums, a.partial + blockIdx.y * kSums * padded + column, padded);
    if (!last_to_arrive(a.counters.tickets + blockIdx.x, gridDim.y)) return;
    finish_strip(a, column);
    if (!last_to_arrive(a.counters.tickets + gridDim.x, gridDim.x)) return;
  } else if (!last_to_arrive(a.counters.tickets + gridDim.x, gridDim.x * gridDim.y)) {
    return;
  }
  if (threadIdx.x != 0) return;
  const double all = static_cast<double>(a.rows) * static_cast<double>(a.width);
  const unsigned long long live = *static_cast<volatile unsigned long long*>(a.counters.live);
  *a.live = all > 0 ? static_cast<float>(static_cast<double>(live) / all) : 0.0f;
  double total = 0;
  for (int64_t w = 0; kInformation && w < a.words; ++w) total += static_cast<volatile double*>(a.strip)[w];
  *static_cast<A*>(a.divergence) = static_cast<A>(a.width > 0 ? total / static_cast<double>(a.width) : 0.0);
}

template <typename T>
struct BackwardArguments {
  const T* grad;                 // contiguous, or null: zero
  const void* grad_information;  // A, or null
  const T* x;
  Theta theta;
  const float* state;
  const void* statistics;  // A [4, width]
  int64_t rows, width, stride, words;
  T* grad_x;
  void* grad_theta;  // dtype of theta
  double* partial;   // [row blocks][64 * words]
  double* strip;     // [words]
  unsigned* tickets;
};

template <typename A>
__device__ void put(void* to, bool wide, int64_t i, A value) {
  if (wide) {
    static_cast<double*>(to)[i] = static_cast<double>(value);
  } else {
    static_cast<float*>(to)[i] = static_cast<float>(value);
  }
}

template <typename T>
__device__ void finish_theta(const BackwardArguments<T>& a, int64_t column, double mu, const double* inverses) {
  const int64_t padded = a.words * kColumns, c = column + threadIdx.x;
  double here = 0;
  if (threadIdx.x < kColumns && c < a.width) {
    for (unsigned b = 0; b < gridDim.y; ++b) here += a.partial[b * padded + c];
    here *= -15.0 / 16.0 * inverses[threadIdx.x];
    if (a.theta.per_feature) put(a.grad_theta, a.theta.wide, c, here * threshold_slope(a.theta.at(c), mu));
  }
  if (a.theta.per_feature) return;
  here = block_sum({here, 0}).x;
  if (threadIdx.x == 0) a.strip[column / kColumns] = here;
  if (!last_to_arrive(a.tickets + gridDim.x, gridDim.x) || threadIdx.x != 0) return;
  double total = 0;
  for (int64_t w = 0; w < a.words; ++w) total += static_cast<volatile double*>(a.strip)[w];
  put(a.grad_theta, a.theta.wide, 0, total * threshold_slope(a.theta.at(0), mu));
}

template <typename T, bool kInformation>
__global__ void __launch_bounds__(kThreads) backward_kernel(const BackwardArguments<T> a) {
  using A = typename Arithmetic<T>::A;
  __shared__ A bounds[kColumns];
  __shared__ double inverses[kColumns];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns;
  const int64_t begin = a.rows * blockIdx.y / gridDim.y, end = a.rows * (blockIdx.y + 1) / gridDim.y;
  const double mu = static_cast<double>(a.state[0]);
  load_thresholds(a.theta, mu, column, a.width, bounds);
  if (threadIdx.x < kColumns) {
    const A t = bounds[threadIdx.x];
    inverses[threadIdx.x] = t > A(0) ? static_cast<double>(A(1) / t) : 0.0;
  }
  __syncthreads();
  A bound[2], inverse[2], pulled[1][2] = {}, k[kCoefficients][2] = {};
  bool exists[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t c = column + lane + 32 * h;
    exists[h] = c < a.width;
    bound[h] = bounds[lane + 32 * h];
    inverse[h] = static_cast<A>(inverses[lane + 32 * h]);
    if (kInformation && exists[h]) {
      const A* s = static_cast<const A*>(a.statistics) + c;
      const double upstream = static_cast<double>(*static_cast<const A*>(a.grad_information));
      const double scale = upstream / (static_cast<double>(a.rows) * static_cast<double>(a.width));
      double exact[kCoefficients];
      divergence_coefficients(s[0], s[a.width], s[2 * a.width], s[3 * a.width], scale, exact);
      for (int i = 0; i < kCoefficients; ++i) k[i][h] = static_cast<A>(exact[i]);
    }
  }
  for (int64_t row = begin + warp; row < end; row += kWarps) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!exists[h]) continue;
      const int64_t c = column + lane + 32 * h;
      const A value = widen(a.x[row * a.stride + c]), size = fabs(value);
      A g = a.grad ? widen(a.grad[row * a.width + c]) : A(0);
      const bool live = size > bound[h];
      if (kInformation) g += k[0][h] + k[3][h] * ((live ? value : A(0)) - k[4][h]);
      A out = live ? g : A(0);
      if (kInformation) out += k[1][h] * (value - k[2][h]) - k[0][h];
      a.grad_x[row * a.width + c] = narrow<T>(out);
      const A v = size * inverse[h] - A(1), bump = A(1) - v * v;  // positive exactly within the window
      if (bump > A(0) && inverse[h] > A(0)) pulled[0][h] += g * value * bump * bump;
    }
  }
  store_column_sums<1>(pulled, a.partial + blockIdx.y * a.words * kColumns + column, 0);
  if (last_to_arrive(a.tickets + blockIdx.x, gridDim.y)) finish_theta(a, column, mu, inverses);
}

}  // namespace dmt
