// Copies that change the layout, masks transposed, counted and applied, for the instruction set this translation unit
// is compiled for.
#pragma once

#include "rows.h"
#include "steps.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace dmt::sparse_linear {
namespace {

// Elements of a block of V vectors.
template <class T, int V>
constexpr int64_t kBlock = V * kLanes<T>;

template <class S, int V>
void pack_straight(const void* source, int64_t stride, int64_t rows, int64_t columns, void* packed) {
  using T = Sum<S>;
  constexpr int64_t size = kBlock<T, V>;
  const S* from = static_cast<const S*>(source);
  T* to = static_cast<T*>(packed);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += size) {
    int64_t c = 0;
    for (; c + kLanes<T> <= columns; c += kLanes<T>) store(to + c, load_sums(from + c));
    for (; c < columns; ++c) to[c] = to_sum(from[c]);
    for (; c < size; ++c) to[c] = 0;
  }
}

// At most kLanes rows and columns of `from`, transposed and converted on the way.
template <class From, class To>
inline void transpose_part(const From* from, int64_t stride, int64_t tall, int64_t wide, To* to,
                           int64_t target_stride) {
  using T = Sum<From>;
  constexpr int n = kLanes<T>;
  alignas(DMT_VECTOR_BYTES) T square[n][n];
  Vector<T> v[n];
  if (tall == n && wide == n) {
    for (int i = 0; i < n; ++i) v[i] = load_sums(from + i * stride);
    transpose_square<T>(v);
    for (int i = 0; i < n; ++i) store_sums(to + i * target_stride, v[i]);
    return;
  }
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) square[i][j] = i < tall && j < wide ? to_sum(from[i * stride + j]) : T{0};
    v[i] = load(square[i]);
  }
  transpose_square<T>(v);
  for (int i = 0; i < n; ++i) store(square[i], v[i]);
  for (int64_t i = 0; i < wide; ++i)
    for (int64_t j = 0; j < tall; ++j) from_sum(square[i][j], to[i * target_stride + j]);
}

// source [rows][columns] -> target [columns][rows], converted on the way. Whole lines of both are done with before
// the next ones.
template <class From, class To>
void transpose(const From* source, int64_t stride, int64_t rows, int64_t columns, To* target, int64_t target_stride) {
  constexpr int n = kLanes<Sum<From>>;
  for (int64_t c = 0; c < columns; c += n) {
    const int64_t wide = columns - c < n ? columns - c : n;
    for (int64_t r = 0; r < rows; r += n) {
      const int64_t tall = rows - r < n ? rows - r : n;
      const From* from = source + r * stride + c;
      To* to = target + c * target_stride + r;
#if defined(__AVX2__)
      if constexpr (std::is_same_v<From, float> && std::is_same_v<To, float>) {
        if (tall == n && wide == n) {
          for (int q = 0; q < n; q += 4) transpose_strip(from + q, stride, to + q * target_stride, target_stride);
          continue;
        }
      }
#endif
      transpose_part(from, stride, tall, wide, to, target_stride);
    }
  }
}

template <class S>
void transpose_in(const void* source, int64_t stride, int64_t rows, int64_t columns, void* target,
                  int64_t target_stride) {
  transpose(static_cast<const S*>(source), stride, rows, columns, static_cast<Sum<S>*>(target), target_stride);
}

// The lines of `target` are far apart and the sums are near: what is written is written in whole rows, four at a time,
// which takes a sixth to a third off the time.
template <class S>
void transpose_out(const void* source, int64_t source_stride, int64_t rows, int64_t columns, void* target,
                   int64_t target_stride) {
  const Sum<S>* from = static_cast<const Sum<S>*>(source);
  S* to = static_cast<S*>(target);
#if defined(__AVX2__)
  if constexpr (std::is_same_v<S, float>) {
    if (rows % kLanes<float> == 0 && columns % 4 == 0) {
      for (int64_t c = 0; c < columns; c += 4)
        for (int64_t r = 0; r < rows; r += kLanes<float>)
          transpose_strip(from + r * source_stride + c, source_stride, to + c * target_stride + r, target_stride);
      return;
    }
  }
#endif
  transpose(from, source_stride, rows, columns, to, target_stride);
}

template <class S, int V>
void pack_transposed(const void* source, int64_t stride, int64_t rows, int64_t columns, void* packed) {
  using T = Sum<S>;
  constexpr int64_t size = kBlock<T, V>;
  T* to = static_cast<T*>(packed);
  if (rows < size)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = rows; r < size; ++r) to[c * size + r] = 0;
  transpose(static_cast<const S*>(source), stride, rows, columns, to, size);
}

inline void transpose_bits(const uint64_t* source, int64_t stride, int64_t rows, uint64_t* target,
                           int64_t target_stride, int64_t columns) {
  alignas(64) uint64_t v[64];
  for (int64_t r = 0; r < rows; ++r) v[r] = source[r * stride];
  for (int64_t r = rows; r < 64; ++r) v[r] = 0;
  const auto swap = [&v](int h, uint64_t low) {  // exchanges the off-diagonal h x h squares
    for (int base = 0; base < 64; base += 2 * h)
      for (int i = base; i < base + h; ++i) {
        const uint64_t t = ((v[i] >> h) ^ v[i + h]) & low;
        v[i + h] ^= t;
        v[i] ^= t << h;
      }
  };
  swap(32, 0x00000000ffffffff);
  swap(16, 0x0000ffff0000ffff);
  swap(8, 0x00ff00ff00ff00ff);
  swap(4, 0x0f0f0f0f0f0f0f0f);
  swap(2, 0x3333333333333333);
  swap(1, 0x5555555555555555);
  for (int64_t c = 0; c < columns; ++c) target[c * target_stride] = v[c];
}

inline int64_t count_live(const uint64_t* bits, int64_t bits_stride, int64_t rows, int64_t columns) {
  const int64_t words = (columns + 63) / 64;
  int64_t live = 0;
  for (int64_t r = 0; r < rows; ++r, bits += bits_stride) {
    for (int64_t w = 0; w + 1 < words; ++w) live += __builtin_popcountll(bits[w]);
    if (words > 0) live += __builtin_popcountll(bits[words - 1] & valid_bits(words - 1, columns));
  }
  return live;
}

template <class S>
void apply_mask(const void* source, int64_t stride, const uint64_t* bits, int64_t bits_stride, int64_t rows,
                int64_t columns, void* target, int64_t target_stride) {
  const S* from = static_cast<const S*>(source);
  S* to = static_cast<S*>(target);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += target_stride, bits += bits_stride)
    for (int64_t c = 0; c < columns; c += 64) {
      const uint64_t word = bits[c / 64];
      const int64_t wide = columns - c < 64 ? columns - c : 64;
#if defined(__AVX512F__)
      if constexpr (std::is_same_v<S, float>) {
        if (wide == 64) {
          for (int i = 0; i < 64; i += 16)
            _mm512_storeu_ps(to + c + i, _mm512_maskz_loadu_ps(static_cast<__mmask16>(word >> i), from + c + i));
          continue;
        }
      }
#endif
#if defined(__AVX512BW__)
      if constexpr (sizeof(S) == 2) {
        if (wide == 64) {
          for (int i = 0; i < 64; i += 32)
            _mm512_storeu_si512(to + c + i, _mm512_maskz_loadu_epi16(static_cast<__mmask32>(word >> i), from + c + i));
          continue;
        }
      }
#endif
      for (int64_t i = 0; i < wide; ++i) to[c + i] = (word >> i) & 1 ? from[c + i] : S{};
    }
}

}  // namespace
}  // namespace dmt::sparse_linear
