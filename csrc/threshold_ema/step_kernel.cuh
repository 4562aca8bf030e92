// The forward step of threshold_ema in one cooperative launch: every block sums |x| over its share and keeps the first
// of it in registers; the grid meets; every block masks its share, what was read last first, for the caches have it.
#pragma once

#include "strips.cuh"

namespace dmt {

constexpr int kAhead = 4;  // packs on their way before the first is used

// Packs of a thread that stay in registers across the meeting, and those on their way to be masked: eq. 10 needs the
// registers for its sums.
template <typename T, bool kInformation>
constexpr int kHold = kInformation     ? 2
                      : sizeof(T) == 2 ? 5
                                       : 6;
template <bool kInformation>
constexpr int kMaskAhead = kInformation ? 2 : 3;

// The live count and tickets; the kernel sets them to zero itself, before the grid meets.
struct Counters {
  unsigned long long* live;
  unsigned* tickets;  // one per strip, and one for the strips that are done
};

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

template <typename T, int kHeld>
__device__ void sum_share(const StepArguments<T>& a, const Share<T>& share, const int4 (&held)[kHeld], bool is_held,
                          Seen& seen) {
  int64_t first = share.row;
  if (is_held) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i)
      if (share.begin + i * kRows<T> < share.end)
        seen.add<T>(held[i], share.existing_in(first + i * kRows<T>), share.part);
    first += kHeld * kRows<T>;
  }
  const Reader<T> x(a.x, a.stride, share);
  for (; first - share.own() < share.end; first += kAhead * kRows<T>) {
    int4 packs[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) packs[i] = x.at(first + i * kRows<T>, share.existing_in(first + i * kRows<T>));
#pragma unroll
    for (int i = 0; i < kAhead; ++i) seen.add<T>(packs[i], share.existing_in(first + i * kRows<T>), share.part);
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
  A bound[kPack<T>], shift[kPack<T>], sums[kInformation ? kSums : 1][kPack<T>] = {};
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
    live += __popc(found);
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

  template <int kHeld>
  __device__ void mask_all(const int4 (&held)[kHeld], bool is_held) {
    int64_t first = share.begin;  // of the block: what decides on loops is the same for all of its threads
    const int own = share.own();
    if (is_held) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (first + i * kRows<T> < share.end) mask(held[i], first + own + i * kRows<T>);
      first += kHeld * kRows<T>;
    }
    const Reader<T> x(a.x, a.stride, share);
    constexpr int kTogether = kMaskAhead<kInformation>;
    constexpr int64_t kStep = kTogether * kRows<T>;
    for (int64_t left = (share.end - first + kStep - 1) / kStep; left > 0; --left) {
      const int64_t row = first + (left - 1) * kStep + own;
      int4 packs[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) packs[i] = x.at(row + i * kRows<T>, share.existing_in(row + i * kRows<T>));
#pragma unroll
      for (int i = 0; i < kTogether; ++i) mask(packs[i], row + i * kRows<T>);
    }
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
__device__ void finish(const StepArguments<T>& a, const float (&state)[kStateSize]) {
  using A = typename Arithmetic<T>::A;
  const double all = static_cast<double>(a.cut.rows) * static_cast<double>(a.cut.width);
  const unsigned long long live = *static_cast<volatile unsigned long long*>(a.counters.live);
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

// eq. 5, for a strip's columns; past the width whatever, as nothing is live there
__device__ inline void load_sigmoids(const Theta& theta, int64_t strip, int64_t width, double (&sigmoids)[kColumns]) {
  const int64_t c = strip * kColumns + threadIdx.x;
  __syncthreads();
  if (threadIdx.x < kColumns) sigmoids[threadIdx.x] = theta.per_feature && c >= width ? 0.0 : sigmoid(theta.at(c));
  __syncthreads();
}

template <typename T, bool kInformation>
__global__ void __launch_bounds__(kThreads, kInformation || sizeof(T) == 8 ? 2 : 3)
    step_kernel(const StepArguments<T> a) {
  __shared__ double sigmoids[kColumns];
  __shared__ float state[kStateSize];
  const Share<T> own(a.cut, blockIdx.x);
  int4 held[kHold<T, kInformation>];
  const Reader<T> x(a.x, a.stride, own);
#pragma unroll
  for (int i = 0; i < kHold<T, kInformation>; ++i)
    held[i] = x.at(own.row + i * kRows<T>, own.existing_in(own.row + i * kRows<T>));
  if (threadIdx.x < kStateSize) state[threadIdx.x] = a.state[threadIdx.x];
  load_sigmoids(a.theta, own.strip, a.cut.width, sigmoids);
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) *a.counters.live = 0;
    for (int64_t i = threadIdx.x; i <= a.cut.strips; i += kThreads) a.counters.tickets[i] = 0;
  }
  if (a.update && !a.sums) {
    Seen seen;
    for (int64_t item = blockIdx.x; item < a.cut.items(); item += gridDim.x)
      sum_share(a, Share<T>(a.cut, item), held, item == blockIdx.x, seen);
    const double2 sum = seen.of_block();
    if (threadIdx.x == 0) a.block_sums[blockIdx.x] = sum;
  }
  grid_sync();
  take_step(a, state);
  for (int64_t item = blockIdx.x; item < a.cut.items(); item += gridDim.x) {
    const bool is_own = item == blockIdx.x;
    const Share<T> share(a.cut, item);
    if (!is_own) load_sigmoids(a.theta, share.strip, a.cut.width, sigmoids);
    Masker<T, kInformation> masker(a, share, sigmoids, static_cast<double>(state[0]));
    masker.mask_all(held, is_own);
    const double live = block_sum({static_cast<double>(masker.live), 0}).x;
    if (threadIdx.x == 0 && live > 0) atomicAdd(a.counters.live, static_cast<unsigned long long>(live));
    if constexpr (kInformation) {
      const int64_t padded = a.cut.strips * kColumns;
      store_column_sums<T, kSums>(masker.sums, a.partial + share.run * kSums * padded + share.strip * kColumns, padded);
      if (!last_to_arrive(a.counters.tickets + share.strip, static_cast<unsigned>(a.cut.runs))) continue;
      finish_strip(a, share.strip);
      if (last_to_arrive(a.counters.tickets + a.cut.strips, static_cast<unsigned>(a.cut.strips)) && threadIdx.x == 0)
        finish<T, true>(a, state);
    }
  }
  if constexpr (!kInformation) {
    if (last_to_arrive(a.counters.tickets + a.cut.strips, gridDim.x) && threadIdx.x == 0) finish<T, false>(a, state);
  }
}

}  // namespace dmt
