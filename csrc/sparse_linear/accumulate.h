// Sums over live elements: y and dW.
#pragma once

#include "layout.h"

namespace dmt::sparse_linear {
namespace {

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

// Where the rows of one step are. What each of them takes, and where its sums begin and go.
template <class S, class X>
struct Strip {
  using T = Sum<S>;
  const uint64_t* bits;
  int64_t bits_stride, words, columns;
  const X* x;
  int64_t down, along;  // to the next row, to the next factor
  const T* packed;
  const T* start;
  T* end;
  int64_t start_step, end_step;
  S* y;  // or null: `end` is where the result belongs
  int64_t y_stride, outputs;
};

// One row: its mask, its x, and the bits of the first word that count.
template <class X>
struct Place {
  int64_t row;
  const uint64_t* live;
  const X* factors;
  uint64_t first;
};

// `count` rows. A function of its own, or the loop over live elements would have to share its registers with what is
// fetched ahead. What does not change from row to row is named: the compiler cannot know that no sum is stored over it.
// The loop over live elements ends when the processor does not expect it; the next row is looked at before, so that it
// is there at that moment. The empty asm keeps the compiler from looking later.
template <class S, class X, int V, int NV, bool One>
__attribute__((noinline)) void accumulate_rows(const Strip<S, X>& s, const uint8_t* order, int64_t count) {
  using T = Sum<S>;
  constexpr int n = kLanes<T>;
  const int64_t bits_stride = s.bits_stride, down = s.down, along = s.along;
  const int64_t start_step = s.start_step, end_step = s.end_step, words = s.words, columns = s.columns;
  const uint64_t first_valid = valid_bits(0, columns);
  const uint64_t* const bits = s.bits;
  const X* const x = s.x;
  const T *const packed = s.packed, *const start = s.start;
  T* const end = s.end;
  const auto place = [=](int64_t r) {
    const uint64_t* const live = bits + r * bits_stride;
    return Place<X>{r, live, x + r * down, One ? live[0] & first_valid : 0};
  };
  Place<X> here = place(order[0]);
  for (int64_t done = 1; done <= count; ++done) {
    Place<X> next = place(order[done < count ? done : 0]);
    asm volatile("" : "+r"(next.first), "+r"(next.factors));
    const T* from = start + here.row * start_step;
    T* to = end + here.row * end_step;
    Vector<T> acc[NV];
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) acc[i] = load(from + i * n);
    if constexpr (One) {
      add_word<V, NV, T>(here.first, here.factors, along, packed, acc);
    } else {
      for (int64_t w = 0; w < words; ++w)
        add_word<V, NV, T>(here.live[w] & valid_bits(w, columns), here.factors + w * 64 * along, along,
                           packed + w * 64 * kBlock<T, V>, acc);
    }
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) store(to + i * n, acc[i]);
    if constexpr (!std::is_same_v<S, T>)
      if (s.y) to_outputs(to, s.outputs, s.y + here.row * s.y_stride);
    here = next;
  }
}

// A block of V vectors, NV of which have outputs. Across: x is read down its columns. One: of one word.
//
// How often the loop over live elements goes round is hard to foresee for a processor (rows.h), and easier the fewer
// branches there are between two of them: hence One, and ends chosen before the loop over rows.
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
  const int64_t rows = a.end - a.begin;
  T* const sums = static_cast<T*>(a.sums);
  S* const y = static_cast<S*>(a.y) + (to_y ? a.begin * a.y_stride : 0);
  Strip<S, X> s;
  s.bits = a.bits + a.begin * a.bits_stride + a.word_begin, s.bits_stride = a.bits_stride;
  s.words = a.word_end - a.word_begin, s.columns = a.columns - a.word_begin * 64;
  s.down = Across ? 1 : a.x_stride, s.along = Across ? a.x_stride : 1;
  s.x = static_cast<const X*>(a.x) + a.begin * s.down + a.word_begin * 64 * s.along;
  s.packed = static_cast<const T*>(a.packed) + (a.word_begin - a.packed_word) * 64 * size;
  s.start = a.first ? bias : sums, s.start_step = a.first ? 0 : size;
  s.end = sums, s.end_step = size;
  s.y = !same && to_y ? y : nullptr, s.y_stride = a.y_stride, s.outputs = a.outputs;
  if constexpr (same)
    if (direct) s.end = y, s.end_step = a.y_stride;
  const uint8_t* const order = a.order ? a.order : kInTurn.row;
  const bool far = One && !Across && a.far;  // of more words, few lines are live
  const auto coming = [&](int64_t r) {
    __builtin_prefetch(s.bits + r * s.bits_stride);
    fetch(s.x + r * s.down, 64 * sizeof(X));
  };
  each_strip(rows, far, coming, s.packed + s.words * 64 * size, a.ahead,
             [&](int64_t r, int64_t count) { accumulate_rows<S, X, V, NV, One>(s, order + r, count); });
  if constexpr (same)
    if (to_y && !direct)
      for (int64_t r = 0; r < rows; ++r) to_outputs(sums + r * size, a.outputs, y + r * a.y_stride);
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
