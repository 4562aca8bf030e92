// Mask, bits and values, with or without the sums of eq. 10. Part of loops.h.
#pragma once

#include "strip.h"

namespace dmt {
namespace DMT_ISA {
namespace {

// One word: compare, store the live values, return the bits.
template <typename V, typename T, bool kStore, bool kStream>
inline uint64_t mask_word(const T* x, const V* bounds, T* values) {
  uint64_t word = 0;
  for (int j = 0; j < kVectors; ++j) {
    const V loaded = V::load(x + j * kLanes);
    const auto alive = loaded.abs() > bounds[j];
    if (kStream) {
      loaded.where(alive).stream(values + j * kLanes);
    } else if (kStore) {
      loaded.where(alive).store(values + j * kLanes);
    }
    word |= static_cast<uint64_t>(alive.bits()) << (j * kLanes);
  }
  return word;
}

// Rows without gaps or narrow last words, and one threshold: one run of words.
template <typename T, bool kStream>
int64_t mask_run(const MaskJob& job, int64_t begin, int64_t end) {
  using V = typename ArithmeticOf<T>::V;
  V bounds[kVectors];
  for (V& bound : bounds) bound = V::load(static_cast<const typename V::Scalar*>(job.thresholds));
  const T* x = static_cast<const T*>(job.x);
  T* values = static_cast<T*>(job.values);
  int64_t live = 0;
  for (int64_t w = begin * job.words; w < end * job.words; ++w) {
    job.bits[w] = mask_word<V, T, true, kStream>(x + w * kColumns, bounds, values + w * kColumns);
    live += __builtin_popcountll(job.bits[w]);
  }
  if (kStream) end_stream();
  return live;
}

template <typename T, bool kStore>
int64_t mask_rows_as(const MaskJob& job, int64_t begin, int64_t end) {
  using V = typename ArithmeticOf<T>::V;
  const auto* thresholds = static_cast<const typename V::Scalar*>(job.thresholds);
  int64_t live = 0;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(job.x) + row * job.row_stride;
    T* values = kStore ? static_cast<T*>(job.values) + row * job.width : nullptr;
    for (int64_t w = 0; w < job.words; ++w) {
      const int64_t column = w * kColumns;
      const Strip<T> strip{job.width - column < kColumns ? job.width - column : kColumns};
      V bounds[kVectors];
      for (int j = 0; j < kVectors; ++j) bounds[j] = V::load(thresholds + column + j * kLanes);
      uint64_t word;
      if (strip.whole()) {
        word = mask_word<V, T, kStore, false>(x + column, bounds, kStore ? values + column : nullptr);
      } else {
        T in[kColumns], out[kColumns];
        word = mask_word<V, T, kStore, false>(strip.padded(x + column, in), bounds, out);
        if (kStore) std::memcpy(static_cast<void*>(values + column), out, sizeof(T) * static_cast<size_t>(strip.width));
      }
      job.bits[row * job.words + w] = word;
      live += __builtin_popcountll(word);
    }
  }
  return live;
}

// kTall rows of one strip, with sums [columns / kLanes][kSums][kLanes]. A vector of all rows is loaded before any is
// stored: values a multiple of 4 KB away from x would otherwise look like the same place to the processor.
template <typename T, bool kStore, bool kStream, int kTall>
inline void sum_strip(const T* const* x, T* const* values, const void* thresholds, const void* shifts, int64_t column,
                      void* partial, uint64_t* words) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  for (int r = 0; r < kTall; ++r) words[r] = 0;
  for (int j = 0; j < kVectors; ++j) {
    const int64_t at = column + j * kLanes;
    const V bound = V::load(static_cast<const A*>(thresholds) + at),
            shift = V::load(static_cast<const A*>(shifts) + at);
    A* sums = static_cast<A*>(partial) + kSums * at;
    V all = V::load(sums), squares = V::load(sums + kLanes), live = V::load(sums + 2 * kLanes),
      live_squares = V::load(sums + 3 * kLanes), count = V::load(sums + 4 * kLanes);
    V loaded[kTall];
    typename V::Mask alive[kTall];
    for (int r = 0; r < kTall; ++r) {
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
    for (int r = 0; r < kTall; ++r) {
      if (kStream) {
        loaded[r].where(alive[r]).stream(values[r] + j * kLanes);
      } else if (kStore) {
        loaded[r].where(alive[r]).store(values[r] + j * kLanes);
      }
    }
    all.store(sums);
    squares.store(sums + kLanes);
    live.store(sums + 2 * kLanes);
    live_squares.store(sums + 3 * kLanes);
    count.store(sums + 4 * kLanes);
  }
}

template <typename T, bool kStore, bool kStream, int kTall>
inline int64_t sum_rows(const MaskJob& job, int64_t row, void* partial) {
  int64_t live = 0;
  for (int64_t w = 0; w < job.words; ++w) {
    const int64_t column = w * kColumns;
    const Strip<T> strip{job.width - column < kColumns ? job.width - column : kColumns};
    const T* x[kTall];
    T* values[kTall];
    T in[kTall][kColumns], out[kTall][kColumns];
    for (int r = 0; r < kTall; ++r) {
      x[r] = static_cast<const T*>(job.x) + (row + r) * job.row_stride + column;
      values[r] = kStore ? static_cast<T*>(job.values) + (row + r) * job.width + column : nullptr;
    }
    uint64_t words[kTall];
    if (strip.whole()) {
      sum_strip<T, kStore, kStream, kTall>(x, values, job.thresholds, job.shifts, column, partial, words);
    } else {
      T* outs[kTall];
      for (int r = 0; r < kTall; ++r) x[r] = strip.padded(x[r], in[r]), outs[r] = out[r];
      sum_strip<T, kStore, false, kTall>(x, outs, job.thresholds, job.shifts, column, partial, words);
      for (int r = 0; r < kTall && kStore; ++r)
        std::memcpy(static_cast<void*>(values[r]), out[r], sizeof(T) * static_cast<size_t>(strip.width));
    }
    for (int r = 0; r < kTall; ++r) {
      job.bits[(row + r) * job.words + w] = words[r];
      live += __builtin_popcountll(words[r]);
    }
  }
  return live;
}

// With the sums of eq. 10: four rows at a time, whole rows, as memory streams them; sums of kSummedRows rows in the
// arithmetic of x, then in double.
template <typename T, bool kStore, bool kStream>
int64_t mask_and_sum(const MaskJob& job, int64_t begin, int64_t end, double* sums, void* partial) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  constexpr int kTall = 4;
  const int64_t padded = job.words * kColumns;
  int64_t live = 0;
  for (int64_t top = begin; top < end; top += kSummedRows) {
    const int64_t bottom = top + kSummedRows < end ? top + kSummedRows : end;
    std::memset(partial, 0, sizeof(A) * static_cast<size_t>(kSums * padded));
    int64_t row = top;
    for (; row + kTall <= bottom; row += kTall) live += sum_rows<T, kStore, kStream, kTall>(job, row, partial);
    for (; row < bottom; ++row) live += sum_rows<T, kStore, kStream, 1>(job, row, partial);
    for (int64_t column = 0; column < padded; column += kLanes) {
      const A* from = static_cast<const A*>(partial) + kSums * column;
      for (int k = 0; k < kSums; ++k) V::load(from + k * kLanes).add_to(sums + k * padded + column);
    }
  }
  if (kStream) end_stream();
  return live;
}

template <typename T>
int64_t mask_rows(const MaskJob& job, int64_t begin, int64_t end, double* sums, void* partial) {
  const bool whole = job.row_stride == job.width && job.width == job.words * kColumns;
  if (sums != nullptr) {
    if (!job.values) return mask_and_sum<T, false, false>(job, begin, end, sums, partial);
    return job.stream && whole ? mask_and_sum<T, true, true>(job, begin, end, sums, partial)
                               : mask_and_sum<T, true, false>(job, begin, end, sums, partial);
  }
  if (!job.values) return mask_rows_as<T, false>(job, begin, end);
  if (!whole || !job.uniform) return mask_rows_as<T, true>(job, begin, end);
  return job.stream ? mask_run<T, true>(job, begin, end) : mask_run<T, false>(job, begin, end);
}

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
