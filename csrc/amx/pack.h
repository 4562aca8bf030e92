// Panels of bfloat16 operands for matrix tiles (steps.h), with AVX-512.
#pragma once

#include <immintrin.h>

#include "steps.h"
#include "tile.h"

namespace dmt::amx {
namespace {

// The first `count` of 32 numbers.
inline __mmask32 first_of(int64_t count) {
  return count >= 32 ? ~__mmask32{0} : count <= 0 ? 0 : (__mmask32{1} << count) - 1;
}

// The bits of 32 columns from `column` on, a multiple of 32, as far as there are columns.
inline __mmask32 half(const uint64_t* words, int64_t column, int64_t columns) {
  return first_of(columns - column) & static_cast<__mmask32>(words[column / 64] >> (column & 63));
}

// Which of the 32 numbers from `column` on are there and live.
inline __mmask32 live(const Operand& m, int64_t row, int64_t column) {
  if (m.mask.bits == nullptr) return first_of(m.columns - column);
  return half(m.mask.bits + row * m.mask.stride, column, m.columns);
}

// Whether anything is live in 32 rows and 32 columns.
inline bool any_live(const Operand& m, int64_t row, int64_t column) {
  const int64_t end = m.rows - row < kSide ? m.rows : row + kSide;
  __mmask32 found = 0;
  for (; row < end; ++row) found |= live(m, row, column);
  return found != 0;
}

int64_t live_in_rows(const Operand& m, int64_t first, int64_t begin, int64_t end, int32_t* steps) {
  int64_t count = 0;
  for (int32_t s = 0; begin + s * kDepth < end; ++s)
    if (any_live(m, first, begin + s * kDepth)) steps[count++] = s;
  return count;
}

int64_t live_in_columns(const Operand& m, int64_t first, int64_t begin, int64_t end, int32_t* steps) {
  int64_t count = 0;
  for (int32_t s = 0; begin + s * kDepth < end; ++s)
    if (any_live(m, begin + s * kDepth, first)) steps[count++] = s;
  return count;
}

template <class T>
inline const T* at(const Operand& m, int64_t row, int64_t column) {
  return static_cast<const T*>(m.data) + row * m.stride + column;
}

inline __m512i numbers(const Operand& m, int64_t row, int64_t column) {
  return _mm512_maskz_loadu_epi16(live(m, row, column), at<uint16_t>(m, row, column));
}

// Whether 32 rows, of 32 numbers from `column` on, are all there and none is masked; then they are read without asking.
inline bool plain(const Operand& m, int64_t row, int64_t column) {
  return m.mask.bits == nullptr && row + kSide <= m.rows && column + 32 <= m.columns;
}

// Where the rows of the operand end: zeros.
template <bool Plain>
inline __m512i numbers_or_zero(const Operand& m, int64_t row, int64_t column) {
  if constexpr (Plain) return _mm512_loadu_si512(at<uint16_t>(m, row, column));
  return row < m.rows ? numbers(m, row, column) : _mm512_setzero_si512();
}

// 16 x 16 numbers of 32 bits.
inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // r[i + j] has columns j, 4 + j, 8 + j, 12 + j of rows i .. i + 3.
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x44);
    t[4 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x44);
    t[8 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xee);
    t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xee);
  }
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88);
    r[4 + j] = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xdd);
    r[8 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88);
    r[12 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xdd);
  }
}

inline void put(void* panel, int64_t vector, __m512i value) {
  _mm512_store_si512(static_cast<char*>(panel) + vector * 64, value);
}

// Pieces are rows of a panel, here and in `right_rows` in pairs of vectors; across, they are halves of a step.
void left_rows(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  for (int r = begin; r < end; ++r) put(step, r, numbers_or_zero<false>(m, first + r, depth));
}

// Here and in left_across depth is along the rows of the operand.
template <bool Plain>
inline void pairs_of_rows(const Operand& m, int64_t row, int64_t column, int begin, int end, void* step) {
  for (int pair = begin; pair < end; ++pair) {
    const __m512i even = numbers_or_zero<Plain>(m, row + 2 * pair, column);
    const __m512i odd = numbers_or_zero<Plain>(m, row + 2 * pair + 1, column);
    put(step, pair, _mm512_unpacklo_epi16(even, odd));
    put(step, 16 + pair, _mm512_unpackhi_epi16(even, odd));
  }
}

void right_rows(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  plain(m, depth, first) ? pairs_of_rows<true>(m, depth, first, begin, end, step)
                         : pairs_of_rows<false>(m, depth, first, begin, end, step);
}

template <bool Plain>
inline void pairs_across(const Operand& m, int64_t row, int64_t column, int begin, int end, void* step) {
  for (int half = begin; half < end; ++half) {
    __m512i tile[16];
    for (int pair = 0; pair < 16; ++pair) {
      const __m512i even = numbers_or_zero<Plain>(m, row + 2 * pair, column);
      const __m512i odd = numbers_or_zero<Plain>(m, row + 2 * pair + 1, column);
      tile[pair] = half == 0 ? _mm512_unpacklo_epi16(even, odd) : _mm512_unpackhi_epi16(even, odd);
    }
    transpose(tile);
    for (int r = 0; r < 16; ++r) put(step, 16 * half + r, tile[r]);
  }
}

void left_across(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  plain(m, depth, first) ? pairs_across<true>(m, depth, first, begin, end, step)
                         : pairs_across<false>(m, depth, first, begin, end, step);
}

template <bool Plain>
inline void transposed_rows(const Operand& m, int64_t row, int64_t column, int begin, int end, void* step) {
  for (int half = begin; half < end; ++half) {
    __m512i tile[16];
    for (int r = 0; r < 16; ++r) tile[r] = numbers_or_zero<Plain>(m, row + 16 * half + r, column);
    transpose(tile);
    for (int r = 0; r < 16; ++r) put(step, 16 * half + r, tile[r]);
  }
}

void right_across(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  plain(m, first, depth) ? transposed_rows<true>(m, first, depth, begin, end, step)
                         : transposed_rows<false>(m, first, depth, begin, end, step);
}

}  // namespace
}  // namespace dmt::amx
