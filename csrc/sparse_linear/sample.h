// Products sampled at live elements: dX.
#pragma once

#include "accumulate.h"

namespace dmt::sparse_linear {
namespace {

// Columns whose weights, of one block of outputs, are half of a first-level cache or a little more.
template <int V>
constexpr int64_t kSpan = V > kWide ? 32 : 64;

// Rows that dX samples at a time where one block has all outputs: their partial sums stay in the first-level cache.
constexpr int64_t kAtOnce = 8;

// What dX samples at a time: rows [row, row + rows), columns [column, column + columns) of one word, one block of
// outputs.
template <class T>
struct Sampled {
  int64_t row, rows, column, columns;
  const T* packed;  // the weights of these columns
  const T* grad;
  int64_t grad_stride;
  T* partial;            // a vector for each live element, row by row
  const uint8_t* order;  // of the rows, from `row` on
  const char* next;      // to fetch for the next block: `ahead` bytes for each row
  int64_t ahead;

  // The live ones of the columns, from bit 0 on.
  uint64_t live(uint64_t word) const { return (word >> (column % 64)) & valid_bits(0, columns); }
};

// `count` rows; `partial` is where their sums begin. Returns where those of the next ones do. A function of its own for
// what accumulate_rows is one.
template <class T, int V, int NV, bool First>
__attribute__((noinline)) T* sample_rows(const Sampled<T>& s, const uint64_t* bits, int64_t bits_stride,
                                         const uint8_t* order, int64_t count, T* partial) {
  constexpr int n = kLanes<T>, chains = NV > 8 ? 2 : 1;  // one alone would keep half of what is to be done waiting
  const uint64_t valid = valid_bits(0, s.columns);
  const int shift = static_cast<int>(s.column % 64);
  const int64_t grad_stride = s.grad_stride;
  const T *const packed = s.packed, *const grad = s.grad;
  int64_t r = *order;
  uint64_t live = (bits[r * bits_stride] >> shift) & valid;
  for (int64_t done = 1; done <= count; ++done) {
    Vector<T> d[NV];
#pragma GCC unroll 16
    for (int i = 0; i < NV; ++i) d[i] = load(grad + r * grad_stride + i * n);
    r = order[done < count ? done : 0];
    uint64_t next_live = (bits[r * bits_stride] >> shift) & valid;
    asm volatile("" : "+r"(next_live));
    for (; live; live &= live - 1, partial += n) {
      const T* p = packed + __builtin_ctzll(live) * kBlock<T, V>;
      Vector<T> sum[chains];  // the next live elements fill the time they wait
#pragma GCC unroll 2
      for (int i = 0; i < chains; ++i) sum[i] = d[i] * load(p + i * n);
      if constexpr (!First) sum[0] += load(partial);
#pragma GCC unroll 16
      for (int i = chains; i < NV; ++i) sum[i % chains] += d[i] * load(p + i * n);
      if constexpr (chains == 2) sum[0] += sum[1];
      store(partial, sum[0]);
    }
    live = next_live;
  }
  return partial;
}

// Starts the partial sums, or adds the products of one more block to them; returns how many there are. They are summed
// across lanes once, when all blocks are in: that costs as much as three products.
template <class T, int V, int NV, bool First>
int64_t sample_block(const GradInput& g, const Sampled<T>& s) {
  constexpr int n = kLanes<T>;
  const uint64_t* const bits = g.bits + s.row * g.bits_stride + s.column / 64;
  const bool far = s.column == g.word_begin * 64;  // later columns find these rows of dY near
  const auto coming = [&](int64_t r) {
    __builtin_prefetch(bits + r * g.bits_stride);
    fetch(s.grad + r * s.grad_stride, NV * n * sizeof(T));
  };
  T* partial = s.partial;
  each_strip(s.rows, far, coming, s.next, s.ahead, [&](int64_t r, int64_t count) {
    partial = sample_rows<T, V, NV, First>(s, bits, g.bits_stride, s.order + r, count, partial);
  });
  return (partial - s.partial) / n;
}

template <class T, int V, bool First>
int64_t sample(const GradInput& g, const Sampled<T>& s, int64_t outputs) {
  if constexpr (V > 8)
    if (outputs > 8 * kLanes<T>) return sample_block<T, V, 16, First>(g, s);
  if constexpr (V > 4)
    if (outputs > 4 * kLanes<T>) return sample_block<T, V, 8, First>(g, s);
  if (outputs > 2 * kLanes<T>) return sample_block<T, V, 4, First>(g, s);
  return sample_block<T, V, 2, First>(g, s);
}

// The next live sums to their columns, zeros to the others; returns how many were used.
template <class S>
inline int64_t expand(uint64_t live, const Sum<S>* sums, S* to, int64_t columns) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<S, float>) {
    if (columns % 16 == 0) {
#pragma GCC unroll 4
      for (int i = 0; i < columns / 16; ++i) {
        const __mmask16 m = static_cast<__mmask16>(live >> (16 * i));
        _mm512_storeu_ps(to + 16 * i, _mm512_maskz_expand_ps(m, _mm512_loadu_ps(sums)));
        sums += __builtin_popcount(m);
      }
      return __builtin_popcountll(live);
    }
  }
#endif
  for (int64_t c = 0; c < columns; ++c) to[c] = S{};
  int64_t used = 0;
  for (; live; live &= live - 1) from_sum(sums[used++], to[__builtin_ctzll(live)]);
  return used;
}

// `live` partial sums to dX. What is summed across lanes takes the place of what it came from.
template <class S>
void finish(const GradInput& g, const Sampled<Sum<S>>& s, int64_t live) {
  using T = Sum<S>;
  constexpr int n = kLanes<T>;
  T* partial = s.partial;
  for (int64_t i = live; i < (live + n - 1) / n * n; ++i) store(partial + i * n, Vector<T>{});
  for (int64_t i = 0; i < live; i += n) {
    Vector<T> v[n];
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) v[j] = load(partial + (i + j) * n);
    store(partial + i, sum_each<T>(v));
  }
  const uint64_t* const bits = g.bits + s.row * g.bits_stride + s.column / 64;
  S* const to = static_cast<S*>(g.grad_x) + s.row * g.grad_x_stride + s.column;
  for (int64_t i = 0; i < s.rows; ++i) {
    const int64_t r = s.order[i];
    partial += expand<S>(s.live(bits[r * g.bits_stride]), partial, to + r * g.grad_x_stride, s.columns);
  }
}

// The only block of outputs: a few rows at a time, from the products to their place.
template <class S, int V>
void sample_at_once(const GradInput& g, Sampled<Sum<S>> s) {
  const int64_t end = s.row + s.rows;
  s.order = kInTurn.row;  // too few rows for an order of their own
  for (; s.row < end; s.row += kAtOnce) {
    s.rows = end - s.row < kAtOnce ? end - s.row : kAtOnce;
    finish<S>(g, s, sample<Sum<S>, V, true>(g, s, g.outputs));
    s.grad += kAtOnce * s.grad_stride, s.next += kAtOnce * s.ahead;
  }
}

// The weight of some columns and one block of outputs, as [columns][block].
template <class S, int V>
void pack_tile(const GradInput& g, const Sampled<Sum<S>>& s, int64_t block, Sum<S>* tile) {
  constexpr int64_t size = kBlock<Sum<S>, V>;
  const int64_t outputs = g.outputs - block * size;
  pack_transposed<S, V>(static_cast<const S*>(g.weight) + block * size * g.weight_stride + s.column, g.weight_stride,
                        outputs < size ? outputs : size, s.columns, tile);
}

// The packed weights of some columns and one block, and where those of the next step lie.
template <class T, int V>
void find_packed(const GradInput& g, int64_t b, int64_t blocks, Sampled<T>& s) {
  constexpr int64_t size = kBlock<T, V>;
  const T* const packed = static_cast<const T*>(g.packed);
  s.packed = packed + (b * g.columns + s.column) * size;
  if (!g.fetches) return;
  const T* next = b + 1 < blocks ? s.packed + g.columns * size : packed + (s.column + kSpan<V>)*size;
  s.next = reinterpret_cast<const char*>(next);
  s.ahead = share_of_lines(kSpan<V> * size * int64_t{sizeof(T)}, s.rows);
}

template <class S, int V>
void grad_input(const GradInput& g) {
  using T = Sum<S>;
  constexpr int64_t size = kBlock<T, V>, span = kSpan<V>;
  const int64_t blocks = (g.outputs + size - 1) / size, rows = g.end - g.begin;
  alignas(64) T tile[span * size];
  uint8_t order[kRows];
  T* const scratch = static_cast<T*>(g.scratch);
  const S* grad = static_cast<const S*>(g.grad) + g.begin * g.grad_stride;
  for (int64_t b = 0; scratch && b < blocks; ++b) {
    const int64_t rest = g.outputs - b * size;
    pack_straight<S, V>(grad + b * size, g.grad_stride, rows, rest < size ? rest : size, scratch + b * rows * size);
  }
  const int64_t end = g.word_end * 64 < g.columns ? g.word_end * 64 : g.columns;
  for (int64_t column = g.word_begin * 64; column < end; column += span) {
    Sampled<T> s{g.begin, rows, column, end - column < span ? end - column : span};
    s.packed = tile, s.grad_stride = size, s.partial = static_cast<T*>(g.partial);
    s.order = g.ordered ? order : kInTurn.row;
    if (g.ordered)
      order_rows(g.bits + g.begin * g.bits_stride + column / 64, g.bits_stride, rows,
                 valid_bits(0, s.columns) << (column % 64), 0, order);
    int64_t live = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      if (g.packed)
        find_packed<T, V>(g, b, blocks, s);
      else
        pack_tile<S, V>(g, s, b, tile);
      if (scratch) {
        s.grad = scratch + b * rows * size;
      } else if constexpr (std::is_same_v<S, T>) {
        s.grad = grad + b * size, s.grad_stride = g.grad_stride;
      }
      if (V > kWide && blocks == 1)
        sample_at_once<S, V>(g, s);
      else if (b == 0)
        live = sample<T, V, true>(g, s, g.outputs);
      else
        sample<T, V, false>(g, s, g.outputs - b * size);
    }
    if (V <= kWide || blocks > 1) finish<S>(g, s, live);
  }
}

}  // namespace
}  // namespace dmt::sparse_linear
