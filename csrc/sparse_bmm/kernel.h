// The product of job.h, for the instruction set this translation unit is compiled for.
#pragma once

#include <type_traits>

#include "../sparse_linear/vector.h"
#include "job.h"

namespace dmt::sparse_bmm {
namespace {

using sparse_linear::everywhere;
using sparse_linear::kLanes;
using sparse_linear::load;
using sparse_linear::store;
using sparse_linear::Vector;

// Bit i: v[i] is not zero; a NaN is not.
template <class T>
inline uint64_t nonzero(Vector<T> v) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  else
    return _mm512_cmp_pd_mask((__m512d)v, _mm512_setzero_pd(), _CMP_NEQ_UQ);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>)
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
  else
    return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_setzero_pd(), _CMP_NEQ_UQ)));
#else
  uint64_t bits = 0;
  for (int i = 0; i < kLanes<T>; ++i) bits |= uint64_t{v[i] != 0} << i;
  return bits;
#endif
}

// The same of x[from .. from + 64) of `count` elements.
template <class T>
inline uint64_t live_word(const T* x, int64_t from, int64_t count) {
  constexpr int n = kLanes<T>;
  const int64_t wide = count - from < 64 ? count - from : 64;
  uint64_t bits = 0;
  int64_t i = 0;
  for (; i + n <= wide; i += n) bits |= nonzero<T>(load(x + from + i)) << i;
  for (; i < wide; ++i) bits |= uint64_t{x[from + i] != 0} << i;
  return bits;
}

inline int take(uint64_t& live) {
  const int k = __builtin_ctzll(live);
  live &= live - 1;
  return k;
}

template <class T, int NV>
inline void add(Vector<T>* sums, T factor, const T* weight) {
  const Vector<T> all = everywhere(factor);
#pragma GCC unroll 8
  for (int i = 0; i < NV; ++i) sums[i] += all * load(weight + i * kLanes<T>);
}

// The first `count` of fewer lanes than there are.
template <class T>
inline void store_first(T* to, Vector<T> v, int64_t count) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), (__m512)v);
  else
    _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << count) - 1), (__m512d)v);
#else
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
#endif
}

// The first `outputs` of NV vectors.
template <class T, int NV>
inline void put(const Vector<T>* sums, int64_t outputs, T* y) {
  constexpr int n = kLanes<T>;
#pragma GCC unroll 8
  for (int i = 0; i < NV; ++i) {
    const int64_t rest = outputs - i * n;
    if (rest >= n)
      store(y + i * n, sums[i]);
    else if (rest > 0)
      store_first(y + i * n, sums[i], rest);
  }
}

// One item as the loops see it: weight in rows that whole vectors may be read from.
template <class T>
struct Item {
  const T* x;
  int64_t x_stride;  // from one row (or column) to the next
  const T* weight;
  int64_t weight_row;
  T* y;
  int64_t rows, depth, outputs;
  T* sums;
};

// Outputs [at, at + NV vectors), x contiguous along its rows: sums stay in registers, and for few of them there are two
// of each, so that additions do not wait for one another.
template <class T, int NV>
void by_rows(const Item<T>& item, int64_t at) {
  for (int64_t r = 0; r < item.rows; ++r) {
    const T* x = item.x + r * item.x_stride;
    Vector<T> even[NV] = {}, odd[NV] = {};
    for (int64_t from = 0; from < item.depth; from += 64) {
      const T* weight = item.weight + from * item.weight_row + at;
      for (uint64_t live = live_word(x, from, item.depth); live;) {
        const int k = take(live);
        add<T, NV>(even, x[from + k], weight + k * item.weight_row);
        if (NV > 2 || !live) continue;
        const int next = take(live);
        add<T, NV>(odd, x[from + next], weight + next * item.weight_row);
      }
    }
    if (NV <= 2)
      for (int i = 0; i < NV; ++i) even[i] += odd[i];
    put<T, NV>(even, item.outputs - at, item.y + r * item.outputs + at);
  }
}

// The same, x contiguous along its columns: a row of weight stays in registers, sums are in a cache.
template <class T, int NV>
void by_columns(const Item<T>& item, int64_t at) {
  constexpr int n = kLanes<T>, wide = NV * n;
  for (int64_t i = 0; i < item.rows * NV; ++i) store(item.sums + i * n, Vector<T>{});
  for (int64_t c = 0; c < item.depth; ++c) {
    const T* x = item.x + c * item.x_stride;
    Vector<T> weight[NV];
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) weight[i] = load(item.weight + c * item.weight_row + at + i * n);
    for (int64_t from = 0; from < item.rows; from += 64)
      for (uint64_t live = live_word(x, from, item.rows); live;) {
        const int64_t r = from + take(live);
        const Vector<T> all = everywhere(x[r]);
        T* sums = item.sums + r * wide;
#pragma GCC unroll 8
        for (int i = 0; i < NV; ++i) store(sums + i * n, load(sums + i * n) + all * weight[i]);
      }
  }
  for (int64_t r = 0; r < item.rows; ++r) {
    Vector<T> sums[NV];
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) sums[i] = load(item.sums + r * wide + i * n);
    put<T, NV>(sums, item.outputs - at, item.y + r * item.outputs + at);
  }
}

template <class T, int NV>
inline void block(const Item<T>& item, int64_t at, bool rows) {
  rows ? by_rows<T, NV>(item, at) : by_columns<T, NV>(item, at);
}

// weight [depth][outputs] in rows of whole vectors, zeros behind.
template <class T>
void pad(const T* weight, const Job& job, int64_t row, T* padded) {
  for (int64_t i = 0; i < job.depth * row; i += kLanes<T>) store(padded + i, Vector<T>{});
  if (job.weight_column == 1) {
    for (int64_t d = 0; d < job.depth; ++d)
      for (int64_t o = 0; o < job.outputs; ++o) padded[d * row + o] = weight[d * job.weight_row + o];
  } else {
    for (int64_t o = 0; o < job.outputs; ++o)
      for (int64_t d = 0; d < job.depth; ++d) padded[d * row + o] = weight[d * job.weight_row + o * job.weight_column];
  }
}

template <class T>
int64_t count_live(const Job& job, int64_t items) {
  const bool by_rows = job.x_column == 1;
  const int64_t lines = by_rows ? job.rows : job.depth, line = by_rows ? job.depth : job.rows;
  int64_t live = 0;
  for (int64_t i = 0; i < items; ++i)
    for (int64_t l = 0; l < lines; ++l) {
      const T* x = static_cast<const T*>(job.x) + i * job.x_item + l * (by_rows ? job.x_row : job.x_column);
      for (int64_t from = 0; from < line; from += 64) live += __builtin_popcountll(live_word(x, from, line));
    }
  return live;
}

template <class T>
void run(const Job& job, int64_t begin, int64_t end) {
  constexpr int n = kLanes<T>;
  const int64_t vectors = (job.outputs + n - 1) / n;
  const bool rows = job.x_column == 1, whole = job.padded == nullptr;
  for (int64_t i = begin; i < end; ++i) {
    const T* weight = static_cast<const T*>(job.weight) + i * job.weight_item;
    T* padded = static_cast<T*>(job.padded);
    if (!whole) pad(weight, job, vectors * n, padded);
    const Item<T> item{static_cast<const T*>(job.x) + i * job.x_item,
                       rows ? job.x_row : job.x_column,
                       whole ? weight : padded,
                       whole ? job.weight_row : vectors * n,
                       static_cast<T*>(job.y) + i * job.rows * job.outputs,
                       job.rows,
                       job.depth,
                       job.outputs,
                       static_cast<T*>(job.sums)};
    int64_t v = 0;
    for (; v + 8 <= vectors; v += 8) block<T, 8>(item, v * n, rows);
    for (; v + 4 <= vectors; v += 4) block<T, 4>(item, v * n, rows);
    for (; v + 2 <= vectors; v += 2) block<T, 2>(item, v * n, rows);
    if (v < vectors) block<T, 1>(item, v * n, rows);
  }
}

template <class T>
Steps steps() {
  return {kLanes<T>, run<T>, count_live<T>};
}

}  // namespace
}  // namespace dmt::sparse_bmm
