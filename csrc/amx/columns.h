// Columns of rows of 16-bit numbers brought side by side, and back.
#pragma once

#include "pack.h"

namespace dmt::amx {
namespace {

void gather_columns(const uint16_t* row, int64_t columns, const uint64_t* words, const uint64_t* bits, uint16_t* to) {
  for (int64_t c = 0; c < columns; c += 32) {
    const __mmask32 taken = half(words, c, columns), read = bits ? taken & half(bits, c, columns) : taken;
    const int64_t count = __builtin_popcount(taken);
    const __m512i side_by_side = _mm512_maskz_compress_epi16(taken, _mm512_maskz_loadu_epi16(read, row + c));
    _mm512_mask_storeu_epi16(to, first_of(count), side_by_side);
    to += count;
  }
}

void scatter_columns(const uint16_t* from, const uint64_t* words, const uint64_t* bits, bool clears, uint16_t* row,
                     int64_t columns) {
  for (int64_t c = 0; c < columns; c += 32) {
    const __mmask32 taken = half(words, c, columns), kept = bits ? taken & half(bits, c, columns) : taken;
    const int64_t count = __builtin_popcount(taken);
    const __m512i spread = _mm512_maskz_expand_epi16(taken, _mm512_maskz_loadu_epi16(first_of(count), from));
    _mm512_mask_storeu_epi16(row + c, clears ? first_of(columns - c) : taken, _mm512_maskz_mov_epi16(kept, spread));
    from += count;
  }
}

}  // namespace
}  // namespace dmt::amx
