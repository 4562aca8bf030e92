// Mask, bits and values together with the sums of eq. 10. Part of loops.h.
#pragma once

#include "mask_loops.h"

namespace dmt {
namespace DMT_ISA {
namespace {

// kRows rows of one strip, with sums [columns / kLanes][kSums][kLanes]. A vector of all rows is loaded before any is
// stored: values a multiple of 4 KB away from x would otherwise look like the same place to the processor.
template <typename T, Store kStore, int kRows>
inline void sum_strip(const T* const* x, T* const* values, const void* thresholds, const void* shifts, int64_t column,
                      void* partial, uint64_t* words) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  for (int r = 0; r < kRows; ++r) words[r] = 0;
  for (int j = 0; j < kVectors; ++j) {
    const int64_t at = column + j * kLanes;
    const V bound = V::load(static_cast<const A*>(thresholds) + at),
            shift = V::load(static_cast<const A*>(shifts) + at);
    A* sums = static_cast<A*>(partial) + kSums * at;
    V all = V::load(sums), squares = V::load(sums + kLanes), live = V::load(sums + 2 * kLanes),
      live_squares = V::load(sums + 3 * kLanes), count = V::load(sums + 4 * kLanes);
    V loaded[kRows];
    typename V::Mask alive[kRows];
    for (int r = 0; r < kRows; ++r) {
      loaded[r] = V::load(x[r] + j * kLanes);
      alive[r] = loaded[r].abs() > bound;
      const V d = loaded[r] - shift;
      all = all + d;
      squares = d.times_plus(d, squares);
      live = live.plus_where(alive[r], d);
      live_squares = live_squares.plus_square_where(alive[r], d);
      count = count.plus_where(alive[r], V::all(A(1)));
      words[r] |= static_cast<uint64_t>(alive[r].bits()) << (j * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      put_out<kStore>(loaded[r].where(alive[r]), values[r] + j * kLanes);
    }
    all.store(sums);
    squares.store(sums + kLanes);
    live.store(sums + 2 * kLanes);
    live_squares.store(sums + 3 * kLanes);
    count.store(sums + 4 * kLanes);
  }
}

template <typename T, Store kStore, int kRows>
inline int64_t sum_rows(const MaskJob& job, int64_t row, void* partial) {
  int64_t live = 0;
  for (int64_t w = 0; w < job.words; ++w) {
    const int64_t column = w * kColumns;
    const Strip<T> strip(job.width - column);
    const T* x[kRows];
    T* values[kRows];
    T in[kRows][kColumns], out[kRows][kColumns];
    for (int r = 0; r < kRows; ++r) {
      x[r] = static_cast<const T*>(job.x) + (row + r) * job.row_stride + column;
      values[r] = kStore != Store::none ? static_cast<T*>(job.values) + (row + r) * job.width + column : nullptr;
    }
    uint64_t words[kRows];
    if (strip.whole()) {
      sum_strip<T, kStore, kRows>(x, values, job.thresholds, job.shifts, column, partial, words);
    } else {
      T* outs[kRows];
      for (int r = 0; r < kRows; ++r) x[r] = strip.padded(x[r], in[r]), outs[r] = out[r];
      sum_strip<T, Store::cached, kRows>(x, outs, job.thresholds, job.shifts, column, partial, words);
      for (int r = 0; r < kRows && kStore != Store::none; ++r)
        std::memcpy(static_cast<void*>(values[r]), out[r], sizeof(T) * static_cast<size_t>(strip.width));
    }
    for (int r = 0; r < kRows; ++r) {
      job.bits[(row + r) * job.words + w] = words[r];
      live += __builtin_popcountll(words[r]);
    }
  }
  return live;
}

// With the sums of eq. 10: a few rows at a time, whole rows, as memory streams them; sums of kSummedRows rows in the
// arithmetic of x, then in double.
template <typename T, Store kStore>
int64_t mask_and_sum_as(const MaskJob& job, int64_t begin, int64_t end, double* sums, void* partial) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  constexpr int kTall = tall<kStore>();
  const int64_t padded = job.words * kColumns;
  int64_t live = 0;
  for (int64_t top = begin; top < end; top += kSummedRows) {
    const int64_t bottom = top + kSummedRows < end ? top + kSummedRows : end;
    std::memset(partial, 0, sizeof(A) * static_cast<size_t>(kSums * padded));
    int64_t row = top;
    for (; row + kTall <= bottom; row += kTall) live += sum_rows<T, kStore, kTall>(job, row, partial);
    for (; row < bottom; ++row) live += sum_rows<T, kStore, 1>(job, row, partial);
    for (int64_t column = 0; column < padded; column += kLanes) {
      const A* from = static_cast<const A*>(partial) + kSums * column;
      for (int k = 0; k < kSums; ++k) V::load(from + k * kLanes).add_to(sums + k * padded + column);
    }
  }
  if (kStore == Store::past) end_stream();
  return live;
}

template <typename T>
int64_t mask_and_sum(const MaskJob& job, int64_t begin, int64_t end, double* sums, void* partial) {
  if (!job.values) return mask_and_sum_as<T, Store::none>(job, begin, end, sums, partial);
  return may_stream(job) ? mask_and_sum_as<T, Store::past>(job, begin, end, sums, partial)
                         : mask_and_sum_as<T, Store::cached>(job, begin, end, sums, partial);
}

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
