// Sums over live elements: y and dW.
#pragma once

#include "layout.h"

namespace dmt::sparse_linear {
namespace {

// Rows lie far apart, so the processor does not guess the next one: what a row will need is fetched while the ones
// before it are worked on.
constexpr int64_t kRowsAhead = 4;

inline void fetch(const void* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i);
}

// Sums rounded to the outputs of one row.
template <class S>
inline void to_outputs(const Sum<S>* sums, int64_t outputs, S* y) {
  constexpr int n = kLanes<Sum<S>>;
  int64_t i = 0;
  for (; i + n <= outputs; i += n) store_sums(y + i, load(sums + i));
  for (; i < outputs; ++i) from_sum(sums[i], y[i]);
}

// The sums of live elements of one word: their factors, `along` apart, times rows of `packed`.
template <int V, int NV, class T, class X>
inline void add_word(uint64_t live, const X* factors, int64_t along, const T* packed, Vector<T>* acc) {
  constexpr int n = kLanes<T>;
  while (live) {
    const int k = __builtin_ctzll(live);
    live &= live - 1;
    const Vector<T> factor = everywhere(to_sum(factors[k * along]));
    const T* p = packed + k * kBlock<T, V>;
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) acc[i] += factor * load(p + i * n);
  }
}

// A block of V vectors, NV of which have outputs. Across: x is read down its columns. One: of one word.
//
// How often the loop over live elements goes round is hard to foresee for a processor, and easier the fewer branches
// there are between two of them: hence One, and ends chosen before the loop over rows. What does not change from row to
// row is named there as well: the compiler cannot know that no sum is stored over `a`.
template <class S, class X, int V, int NV, bool Across, bool One>
void accumulate_block(const Accumulate& a) {
  using T = Sum<S>;
  constexpr int n = kLanes<T>;
  constexpr int64_t size = kBlock<T, V>;
  constexpr bool same = std::is_same_v<S, T>;
  const bool to_y = a.last && a.y, direct = same && to_y && a.outputs == NV * n;
  alignas(DMT_VECTOR_BYTES) T bias[NV * n];
#pragma GCC unroll 8
  for (int i = 0; i < NV; ++i) store(bias + i * n, Vector<T>{});
  if (a.first && a.bias)
    for (int64_t i = 0; i < a.outputs; ++i) bias[i] = to_sum(static_cast<const S*>(a.bias)[i]);
  const int64_t words = a.word_end - a.word_begin, rows = a.end - a.begin, columns = a.columns - a.word_begin * 64;
  const int64_t bits_stride = a.bits_stride, x_stride = a.x_stride, y_stride = a.y_stride;
  const int64_t down = Across ? 1 : x_stride, along = Across ? x_stride : 1;  // to the next row, the next factor
  const uint64_t first_valid = valid_bits(0, columns);
  const uint64_t* bits = a.bits + a.begin * bits_stride + a.word_begin;
  const X* x = static_cast<const X*>(a.x) + a.begin * down + a.word_begin * 64 * along;
  const T* const packed = static_cast<const T*>(a.packed) + (a.word_begin - a.packed_word) * 64 * size;
  const int64_t ahead = a.ahead;
  const bool far = !Across && a.far;
  const char* next = reinterpret_cast<const char*>(packed + words * 64 * size);
  S* const y = static_cast<S*>(a.y) + (to_y ? a.begin * y_stride : 0);
  T* const sums = static_cast<T*>(a.sums);
  const T* start = a.first ? bias : sums;
  const int64_t start_step = a.first ? 0 : size, end_step = direct ? y_stride : size;
  T* end = sums;
  if constexpr (same)
    if (direct) end = y;
  for (int64_t r = 0; r < rows; ++r, bits += bits_stride, x += down, start += start_step, end += end_step) {
    if (One && far) {  // of more words, few lines are live; nothing is harmed where there is no such row
      __builtin_prefetch(bits + kRowsAhead * bits_stride);
      fetch(x + kRowsAhead * x_stride, 64 * sizeof(X));
    }
    if constexpr (!Across)
      for (int64_t i = 0; i < ahead; i += 64) __builtin_prefetch(next + i, 0, 2);
    next += ahead;
    Vector<T> acc[NV];
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) acc[i] = load(start + i * n);
    if constexpr (One) {
      add_word<V, NV, T>(bits[0] & first_valid, x, along, packed, acc);
    } else {
      for (int64_t w = 0; w < words; ++w)
        add_word<V, NV, T>(bits[w] & valid_bits(w, columns), x + w * 64 * along, along, packed + w * 64 * size, acc);
    }
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) store(end + i * n, acc[i]);
    if constexpr (!same)
      if (to_y) to_outputs(end, a.outputs, y + r * y_stride);
  }
  if constexpr (same)
    if (to_y && !direct)
      for (int64_t r = 0; r < rows; ++r) to_outputs(sums + r * size, a.outputs, y + r * y_stride);
}

template <class S, class X, int V, int NV, bool Across>
void accumulate_vectors(const Accumulate& a) {
  if (a.word_end - a.word_begin == 1) return accumulate_block<S, X, V, NV, Across, true>(a);
  if constexpr (!Across) accumulate_block<S, X, V, NV, Across, false>(a);
}

template <class S, class X, int V, bool Across = false>
void accumulate(const Accumulate& a) {
  const int64_t vectors = (a.outputs + kLanes<Sum<S>> - 1) / kLanes<Sum<S>>;
  if constexpr (V > 4)
    if (vectors > 4) return accumulate_vectors<S, X, V, 8, Across>(a);
  if (vectors > 2) return accumulate_vectors<S, X, V, 4, Across>(a);
  if (vectors > 1) return accumulate_vectors<S, X, V, 2, Across>(a);
  return accumulate_vectors<S, X, V, 1, Across>(a);
}

}  // namespace
}  // namespace dmt::sparse_linear
