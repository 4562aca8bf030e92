// Products sampled at live elements: dX.
#pragma once

#include "accumulate.h"

namespace dmt::sparse_linear {
namespace {

// What dX samples at a time: rows [row, row + rows), word `w` of the mask, one block of outputs.
template <class T>
struct Sampled {
  int64_t row, rows, w;
  const T* packed;  // the weights of the word's columns
  const T* grad;
  int64_t grad_stride;
  T* partial;        // a vector for each live element of the rows, in order
  const char* next;  // to fetch for the next block: `ahead` bytes for each row
  int64_t ahead;
};

// Starts the partial sums, or adds the products of one more block to them. They are summed across lanes once, when all
// blocks are in: that costs as much as three products.
template <class T, int V, int NV, bool First>
void sample_block(const GradInput& g, const Sampled<T>& s) {
  constexpr int n = kLanes<T>;
  constexpr int64_t size = kBlock<T, V>;
  const uint64_t valid = valid_bits(s.w, g.columns);
  const int64_t rows = s.rows, bits_stride = g.bits_stride, grad_stride = s.grad_stride;
  const T* const packed = s.packed;
  const char* next = s.next;
  const bool far = s.w == g.word_begin;  // later words find these rows of dY near
  const int64_t ahead = s.ahead;
  const uint64_t* bits = g.bits + s.row * bits_stride + s.w;
  const T* from = s.grad;
  T* partial = s.partial;
  for (int64_t r = 0; r < rows; ++r, bits += bits_stride, from += grad_stride) {
    if (far) {  // nothing is harmed where there is no such row
      __builtin_prefetch(bits + kRowsAhead * bits_stride);
      fetch(from + kRowsAhead * grad_stride, NV * n * sizeof(T));
    }
    for (int64_t i = 0; i < ahead; i += 64) __builtin_prefetch(next + i, 0, 2);
    next += ahead;
    Vector<T> d[NV];
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) d[i] = load(from + i * n);
    for (uint64_t live = *bits & valid; live; live &= live - 1, partial += n) {
      const T* p = packed + __builtin_ctzll(live) * size;
      Vector<T> sum = d[0] * load(p);  // one chain: the next live elements fill the time it waits
      if constexpr (!First) sum += load(partial);
#pragma GCC unroll 8
      for (int i = 1; i < NV; ++i) sum += d[i] * load(p + i * n);
      store(partial, sum);
    }
  }
}

template <class T, int V, bool First>
void sample(const GradInput& g, const Sampled<T>& s, int64_t outputs) {
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

// The partial sums of one word's columns to dX. What is summed across lanes takes the place of what it came from.
template <class S>
void finish(const GradInput& g, int64_t row, int64_t rows, int64_t w, Sum<S>* partial) {
  using T = Sum<S>;
  constexpr int n = kLanes<T>;
  const uint64_t valid = valid_bits(w, g.columns);
  const uint64_t* bits = g.bits + row * g.bits_stride + w;
  int64_t live = 0;
  for (int64_t r = 0; r < rows; ++r) live += __builtin_popcountll(bits[r * g.bits_stride] & valid);
  for (int64_t i = live; i < (live + n - 1) / n * n; ++i) store(partial + i * n, Vector<T>{});
  for (int64_t i = 0; i < live; i += n) {
    Vector<T> v[n];
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) v[j] = load(partial + (i + j) * n);
    store(partial + i, sum_each<T>(v));
  }
  const int64_t rest = g.columns - w * 64;
  for (int64_t r = 0; r < rows; ++r)
    partial += expand<S>(bits[r * g.bits_stride] & valid, partial,
                         static_cast<S*>(g.grad_x) + (row + r) * g.grad_x_stride + w * 64, rest < 64 ? rest : 64);
}

// The weight of one word of columns and one block of outputs, as [64][block].
template <class S, int V>
void pack_tile(const GradInput& g, int64_t w, int64_t block, Sum<S>* tile) {
  constexpr int64_t size = kBlock<Sum<S>, V>;
  const int64_t outputs = g.outputs - block * size, columns = g.columns - w * 64;
  pack_transposed<S, V>(static_cast<const S*>(g.weight) + block * size * g.weight_stride + w * 64, g.weight_stride,
                        outputs < size ? outputs : size, columns < 64 ? columns : 64, tile);
}

// The packed weights of one word and one block, and where those of the next step lie.
template <class T, int V>
void find_packed(const GradInput& g, int64_t b, int64_t blocks, Sampled<T>& s) {
  constexpr int64_t size = kBlock<T, V>;
  const T* const packed = static_cast<const T*>(g.packed);
  s.packed = packed + (b * g.columns + s.w * 64) * size;
  if (!g.fetches) return;
  const T* next = b + 1 < blocks ? s.packed + g.columns * size : packed + (s.w + 1) * 64 * size;
  s.next = reinterpret_cast<const char*>(next);
  s.ahead = share_of_lines(64 * size * int64_t{sizeof(T)}, s.rows);
}

template <class S, int V>
void grad_input(const GradInput& g) {
  using T = Sum<S>;
  constexpr int64_t size = kBlock<T, V>;
  const int64_t blocks = (g.outputs + size - 1) / size, rows = g.end - g.begin;
  alignas(64) T tile[64 * size];
  T* const scratch = static_cast<T*>(g.scratch);
  const S* grad = static_cast<const S*>(g.grad) + g.begin * g.grad_stride;
  for (int64_t b = 0; scratch && b < blocks; ++b) {
    const int64_t rest = g.outputs - b * size;
    pack_straight<S, V>(grad + b * size, g.grad_stride, rows, rest < size ? rest : size, scratch + b * rows * size);
  }
  for (int64_t w = g.word_begin; w < g.word_end; ++w) {
    for (int64_t b = 0; b < blocks; ++b) {
      Sampled<T> s{g.begin, rows, w, tile, nullptr, size, static_cast<T*>(g.partial), nullptr, 0};
      if (g.packed)
        find_packed<T, V>(g, b, blocks, s);
      else
        pack_tile<S, V>(g, w, b, tile);
      if (scratch) {
        s.grad = scratch + b * rows * size;
      } else if constexpr (std::is_same_v<S, T>) {
        s.grad = grad + b * size, s.grad_stride = g.grad_stride;
      }
      if (b == 0)
        sample<T, V, true>(g, s, g.outputs);
      else
        sample<T, V, false>(g, s, g.outputs - b * size);
    }
    finish<S>(g, g.begin, rows, w, static_cast<T*>(g.partial));
  }
}

}  // namespace
}  // namespace dmt::sparse_linear
