// The forward step of threshold_ema in one cooperative launch: every block sums |x| over its share, the grid meets, and
// every block masks its share: first the packs that it still holds, then what was read last, for the caches have it.
#pragma once

#include "strips.cuh"

namespace dmt {

constexpr int kBatch = 4;  // packs of a thread that are on their way at once, and held across the meeting
template <typename T>
constexpr int64_t kBatchRows = kBatch * kRows<T>;

// The live count, and tickets: one per strip, and one for the strips that are done. The kernel sets them to zero
// itself, before the grid meets. Without an information term the upper bits of the count are the ticket of the blocks.
struct Counters {
  unsigned long long* live;
  unsigned* tickets;
};
constexpr int kTicketShift = 42;

template <typename T>
struct StepArguments {
  const T* x;
  Cut cut;
  int64_t stride;
  Theta theta;
  const float* state;
  bool update;
  const double* sums;   // given from outside, [2]; null: of this x
  double2* block_sums;  // [blocks]
  double alpha;
  T* values;       // or null
  uint32_t* bits;  // words as halves
  float* live;
  void* divergence;  // A; or null
  float* next;       // the state afterwards, or null
  float* moved;      // the same, in place of the old, or null
  int64_t moved_stride;
  void* statistics;     // A [4, width], where there is an information term
  double* partial;      // [runs][kSums][64 * strips]
  double* strip_parts;  // [strips]: each strip's part of eq. 10
  Counters counters;
  bool streaming;
};

template <typename T>
__device__ int64_t batches(const Share<T>& share) {
  return (share.end - share.begin + kBatchRows<T> - 1) / kBatchRows<T>;
}

template <typename T>
__device__ void load_batch(const Reader<T>& x, const Share<T>& share, int64_t number, int4 (&packs)[kBatch]) {
  const int64_t first = share.row + number * kBatchRows<T>;
#pragma unroll
  for (int i = 0; i < kBatch; ++i) packs[i] = x.at(first + i * kRows<T>, share.existing_in(first + i * kRows<T>));
}

// Leaves the last batch in `packs`.
template <typename T>
__device__ void sum_share(const StepArguments<T>& a, const Share<T>& share, int4 (&packs)[kBatch], Seen& seen) {
  const Reader<T> x(a.x, a.stride, share);
  const int64_t count = batches(share);
  for (int64_t number = 0; number < count; ++number) {
    load_batch(x, share, number, packs);
    const int64_t first = share.row + number * kBatchRows<T>;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) seen.add<T>(packs[i], share.existing_in(first + i * kRows<T>), share.part);
  }
}

// Eq. 6, once the grid has met: `state` becomes what it is afterwards.
template <typename T>
__device__ void take_step(const StepArguments<T>& a, float (&state)[kStateSize]) {
  if (!a.update) return;
  const double2 total = a.sums ? double2{a.sums[0], a.sums[1]} : total_of(a.block_sums, static_cast<int>(gridDim.x));
  if (threadIdx.x == 0) {
    float moved[kStateSize];
    next_state(state, total.x, total.y, a.alpha, moved);
    for (int i = 0; i < kStateSize; ++i) state[i] = moved[i];
  }
  __syncthreads();
}

// Masks packs of one share; keeps what eq. 10 needs.
template <typename T, bool kInformation>
struct Masker {
  using A = typename Arithmetic<T>::A;
  const StepArguments<T>& a;
  const Share<T>& share;
  bool whole;
  A bound[kPack<T>], shift[kPack<T>], sums[kSums][kPack<T>] = {};  // the last two for eq. 10 alone
  int live = 0;

  __device__ Masker(const StepArguments<T>& a, const Share<T>& share, const double* sigmoids, double mu)
      : a(a), share(share), whole(a.cut.width % kPack<T> == 0 && share.there == kPack<T>) {
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) {
      bound[j] = static_cast<A>(sigmoids[share.part * kPack<T> + j] * mu);
      shift[j] = kInformation && j < share.there && a.cut.rows > 0 ? widen(a.x[share.column + j]) : A(0);
    }
  }

  // Whole warps go round together; rows from the share's end on are nothing.
  __device__ void mask(const int4& pack, int64_t row) {
    constexpr int kThreadsOfHalf = kSpan<T> / 2;
    T values[kPack<T>];
    memcpy(values, &pack, 16);
    const bool inside = row < share.end;
    unsigned found = 0;
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) {
      const A value = widen(values[j]);
      const bool is_live = inside && fabs(value) > bound[j];
      found |= static_cast<unsigned>(is_live) << j;
      if (!is_live) values[j] = narrow<T>(A(0));
      if (kInformation) {
        const A d = inside && j < share.there ? value - shift[j] : A(0), e = is_live ? d : A(0);
        sums[0][j] += d;
        sums[1][j] += d * d;
        sums[2][j] += e;
        sums[3][j] += e * e;
        sums[4][j] += is_live ? A(1) : A(0);
      }
    }
    if (!kInformation) live += __popc(found);
    found <<= share.part % kThreadsOfHalf * kPack<T>;
#pragma unroll
    for (int step = 1; step < kThreadsOfHalf; step *= 2) found |= __shfl_xor_sync(~0u, found, step);
    if (!inside) return;
    if (share.part % kThreadsOfHalf == 0)
      a.bits[(row * a.cut.strips + share.strip) * 2 + share.part / kThreadsOfHalf] = found;
    if (a.values) {
      int4 out;
      memcpy(&out, values, 16);
      store_pack(a.values + row * a.cut.width + share.column, out, share.there, whole, a.streaming);
    }
  }

  // held: `packs` are the last batch already.
  __device__ void mask_all(int4 (&packs)[kBatch], bool held) {
    const Reader<T> x(a.x, a.stride, share);
    for (int64_t number = batches(share) - 1; number >= 0; --number) {
      if (!held) load_batch(x, share, number, packs);
      held = false;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) mask(packs[i], share.row + number * kBatchRows<T> + i * kRows<T>);
    }
#pragma unroll
    for (int j = 0; kInformation && j < kPack<T>; ++j) live += static_cast<int>(sums[kSums - 1][j]);
  }
};

// The last block of a strip turns its sums into statistics and its part of eq. 10.
template <typename T>
__device__ void finish_strip(const StepArguments<T>& a, int64_t strip) {
  using A = typename Arithmetic<T>::A;
  const int64_t padded = a.cut.strips * kColumns, c = strip * kColumns + threadIdx.x;
  double sums[kSums], part = 0;
  total_columns<kSums>(a.partial + strip * kColumns, a.cut.runs, padded, sums);
  if (threadIdx.x < kColumns && c < a.cut.width) {
    double m[4];
    const double shift = a.cut.rows > 0 ? static_cast<double>(widen(a.x[c])) : 0.0;
    moments(sums, shift, static_cast<double>(a.cut.rows), m);
    for (int k = 0; k < 4; ++k) static_cast<A*>(a.statistics)[k * a.cut.width + c] = static_cast<A>(m[k]);
    part = divergence(m[0], m[1], m[2], m[3]);
  }
  part = block_sum({part, 0}).x;
  if (threadIdx.x == 0) a.strip_parts[strip] = part;
}

// By one thread, when everything else is done. The old state has been read by all.
template <typename T, bool kInformation>
__device__ void finish(const StepArguments<T>& a, const float (&state)[kStateSize], unsigned long long live) {
  using A = typename Arithmetic<T>::A;
  const double all = static_cast<double>(a.cut.rows) * static_cast<double>(a.cut.width);
  *a.live = all > 0 ? static_cast<float>(static_cast<double>(live) / all) : 0.0f;
  for (int i = 0; i < kStateSize; ++i) {
    if (a.next) a.next[i] = state[i];
    if (a.moved) a.moved[i * a.moved_stride] = state[i];
  }
  if (!a.divergence) return;
  double total = 0;
  for (int64_t s = 0; kInformation && s < a.cut.strips; ++s) total += static_cast<volatile double*>(a.strip_parts)[s];
  *static_cast<A*>(a.divergence) = static_cast<A>(a.cut.width > 0 ? total / static_cast<double>(a.cut.width) : 0.0);
}

// Eq. 5 for a strip's columns; past the width anything will do, as nothing is live there.
__device__ inline void load_sigmoids(const Theta& theta, int64_t strip, int64_t width, double (&sigmoids)[kColumns]) {
  const int64_t c = strip * kColumns + threadIdx.x;
  __syncthreads();
  if (threadIdx.x < kColumns) sigmoids[threadIdx.x] = theta.per_feature && c >= width ? 0.0 : sigmoid(theta.at(c));
  __syncthreads();
}

template <typename T, bool kInformation>
__global__ void __launch_bounds__(kThreads, kInformation || sizeof(T) == 8 ? 2 : kBlocks)
    step_kernel(const StepArguments<T> a) {
  __shared__ double sigmoids[kColumns];
  __shared__ float state[kStateSize];
  int4 packs[kBatch];
  if (threadIdx.x < kStateSize) state[threadIdx.x] = a.state[threadIdx.x];
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) *a.counters.live = 0;
    for (int64_t i = threadIdx.x; kInformation && i <= a.cut.strips; i += kThreads) a.counters.tickets[i] = 0;
  }
  // The items of this block: blockIdx.x, and every gridDim.x-th; the last is summed last and masked first.
  const int64_t last = (a.cut.items() - 1 - blockIdx.x) / gridDim.x * gridDim.x + blockIdx.x;
  const bool sums = a.update && !a.sums;
  load_sigmoids(a.theta, static_cast<int64_t>(last % a.cut.strips), a.cut.width, sigmoids);
  if (sums) {
    Seen seen;
    for (int64_t item = blockIdx.x; item <= last; item += gridDim.x) sum_share(a, Share<T>(a.cut, item), packs, seen);
    const double2 sum = seen.of_block();
    if (threadIdx.x == 0) a.block_sums[blockIdx.x] = sum;
  }
  grid_sync();
  take_step(a, state);
  int live = 0;
  for (int64_t item = last; item >= 0; item -= gridDim.x) {
    const Share<T> share(a.cut, item);
    if (item != last) load_sigmoids(a.theta, share.strip, a.cut.width, sigmoids);
    Masker<T, kInformation> masker(a, share, sigmoids, static_cast<double>(state[0]));
    masker.mask_all(packs, sums && item == last);
    live += masker.live;
    if constexpr (kInformation) {
      const auto count = static_cast<unsigned long long>(block_sum({static_cast<double>(masker.live), 0}).x);
      if (threadIdx.x == 0) atomicAdd(a.counters.live, count);
      const int64_t padded = a.cut.strips * kColumns;
      store_column_sums<T, kSums>(masker.sums, a.partial + share.run * kSums * padded + share.strip * kColumns, padded);
      if (!last_to_arrive(a.counters.tickets + share.strip, static_cast<unsigned>(a.cut.runs))) continue;
      finish_strip(a, share.strip);
      if (last_to_arrive(a.counters.tickets + a.cut.strips, static_cast<unsigned>(a.cut.strips)) && threadIdx.x == 0)
        finish<T, true>(a, state, *static_cast<volatile unsigned long long*>(a.counters.live));
    }
  }
  if constexpr (!kInformation) {
    const double counted = block_sum({static_cast<double>(live), 0}).x;
    if (threadIdx.x != 0) return;
    const auto mine = static_cast<unsigned long long>(counted) + (1ull << kTicketShift);
    const unsigned long long all = atomicAdd(a.counters.live, mine) + mine;
    if (all >> kTicketShift == gridDim.x) finish<T, false>(a, state, all & ((1ull << kTicketShift) - 1));
  }
}

}  // namespace dmt
