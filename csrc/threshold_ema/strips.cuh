// How the kernels of threshold_ema share x: strips of 64 columns, the columns of one word of the mask, cut into runs of
// rows. A strip's run is one block's work at a time; in it a thread has one pack of columns and every kRows-th row.
// Sums are kept per run and added in the order of the runs by whichever block finishes last, so that results do not
// depend on scheduling.
#pragma once

#include "arithmetic.h"
#include "sum_kernel.cuh"

namespace dmt {

constexpr int kBlocks = 4;  // that a multiprocessor is to hold at once, where registers allow it

// Rows that a block reads at once.
template <typename T>
constexpr int kRows = kThreads / kSpan<T>;

struct Theta {
  const void* data;
  bool wide;         // float64, otherwise float32
  bool per_feature;  // [D], otherwise one number
  __device__ double at(int64_t column) const {
    const int64_t i = per_feature ? column : 0;
    return wide ? static_cast<const double*>(data)[i] : static_cast<double>(static_cast<const float*>(data)[i]);
  }
};

struct Cut {
  int64_t rows, width, strips, runs;  // at least one strip and one run, even of an empty x
  DMT_BOTH int64_t items() const { return strips * runs; }
};

// One thread's share of one strip's run.
template <typename T>
struct Share {
  int part;             // of the word
  unsigned strip, run;  // the item
  int64_t column;       // the thread's first
  int64_t begin, end;   // rows of the run
  int64_t row;          // the thread's first
  int there;            // columns that exist, of a pack

  __device__ Share(const Cut& cut, int64_t item)
      : part(threadIdx.x % kSpan<T>),
        strip(static_cast<unsigned>(item % cut.strips)),
        run(static_cast<unsigned>(item / cut.strips)),
        column(static_cast<int64_t>(strip) * kColumns + part * kPack<T>),
        begin(cut.rows * run / cut.runs),
        end(cut.rows * (run + 1) / cut.runs),
        row(begin + own()),
        there(existing<T>(column, cut.width)) {}
  __device__ static int own() { return threadIdx.x / kSpan<T>; }  // rows that the thread is behind the block's first
  __device__ int existing_in(int64_t at) const { return at < end ? there : 0; }
};

// A matrix as a share reads it.
template <typename T>
struct Reader {
  const T* from;
  int64_t stride;
  bool whole;

  __device__ Reader(const T* data, int64_t stride, const Share<T>& share)
      : from(data + share.column), stride(stride), whole(is_packed(data, stride) && share.there == kPack<T>) {}
  __device__ int4 at(int64_t row, int there) const { return load_pack(from + row * stride, there, whole && there > 0); }
};

// `there` values of a pack to `to`; streaming: not to be kept in the caches.
template <typename T>
__device__ inline void store_pack(T* to, const int4& pack, int there, bool whole, bool streaming) {
  if (whole) {
    if (streaming) {
      __stcs(reinterpret_cast<int4*>(to), pack);
    } else {
      *reinterpret_cast<int4*>(to) = pack;
    }
    return;
  }
  T values[kPack<T>];
  memcpy(values, &pack, 16);
#pragma unroll
  for (int j = 0; j < kPack<T>; ++j)
    if (j < there) to[j] = values[j];
}

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

// Sums by column over the block, from what each thread has of its pack, to `out` [kinds][padded].
template <typename T, int kKinds, typename A>
__device__ void store_column_sums(A (&mine)[kKinds][kPack<T>], double* out, int64_t padded) {
  __shared__ A of_warp[kWarps][kKinds][kColumns];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < kKinds; ++k) {
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) {
      A sum = mine[k][j];
      for (int step = kSpan<T>; step < 32; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
      if (lane < kSpan<T>) of_warp[warp][k][lane * kPack<T> + j] = sum;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kKinds * kColumns; i += kThreads) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += static_cast<double>(of_warp[w][i / kColumns][i % kColumns]);
    out[i / kColumns * padded + i % kColumns] = sum;
  }
  __syncthreads();  // a block may come here again
}

// A strip's column sums over all runs: of kind k and the thread's column, in the block's first 64 threads. `partial`
// [runs][kinds][padded] begins at the strip's first column.
template <int kKinds>
__device__ void total_columns(const double* partial, int64_t runs, int64_t padded, double (&totals)[kKinds]) {
  constexpr int kGroups = kThreads / kColumns;
  __shared__ double of_group[kGroups][kKinds][kColumns];
  const int group = threadIdx.x / kColumns, c = threadIdx.x % kColumns;
  double sums[kKinds] = {};
  for (int64_t run = group; run < runs; run += kGroups) {
#pragma unroll
    for (int k = 0; k < kKinds; ++k) sums[k] += partial[(run * kKinds + k) * padded + c];
  }
#pragma unroll
  for (int k = 0; k < kKinds; ++k) of_group[group][k][c] = sums[k];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kKinds; ++k) {
    totals[k] = 0;
    for (int g = 0; g < kGroups; ++g) totals[k] += of_group[g][k][c];
  }
  __syncthreads();
}

}  // namespace dmt
