// The steps of convolutions on matrix tiles (steps.h): pixels times channels of float32, each number in one, two or
// three parts of bfloat16 (parts.h).
#pragma once

#include "affine.h"
#include "parts.h"

namespace dmt::amx {
namespace {

namespace convolution {

// To the nearest; the upper half of each lane counts.
inline __m512i to_nearest(__m512i x) { return _mm512_add_epi32(x, _mm512_set1_epi32(0x8000)); }

template <int Parts>
inline void put_parts(char* to, int64_t part, __m512i first, __m512i second) {
  if constexpr (Parts == 1) {
    _mm512_store_si512(to, parts::pair(to_nearest(first), to_nearest(second)));
    return;
  }
  const parts::Split a = parts::split(first), b = parts::split(second);
  _mm512_store_si512(to, parts::pair(a.high, b.high));
  if constexpr (Parts == 2) {
    const __m512i rest = to_nearest(parts::less(first, a.high)), other = to_nearest(parts::less(second, b.high));
    _mm512_store_si512(to + part, parts::pair(rest, other));
  } else {
    _mm512_store_si512(to + part, parts::pair(a.middle, b.middle));
    _mm512_store_si512(to + 2 * part, parts::pair(a.low, b.low));
  }
}

template <int Parts, bool Changed>
void pack(const Pixels& from, const Affine& before, int64_t part, char* to) {
  const __mmask32 there = first_of(from.channels);
  const __mmask16 low = static_cast<__mmask16>(there), high = static_cast<__mmask16>(there >> 16);
  Lanes first{}, second{};
  if constexpr (Changed) first = {before, 0, low}, second = {before, 16, high};
  const float* x = from.data;
  for (int64_t i = 0; i < from.count; ++i, x += from.stride, to += kRowBytes) {
    const __m512 a = _mm512_maskz_loadu_ps(low, x), b = _mm512_maskz_loadu_ps(high, x + 16);
    if constexpr (Changed)
      put_parts<Parts>(to, part, _mm512_castps_si512(first(a)), _mm512_castps_si512(second(b)));
    else
      put_parts<Parts>(to, part, _mm512_castps_si512(a), _mm512_castps_si512(b));
  }
}

template <int Parts>
void pack_parts(const Pixels& from, const Affine& before, int64_t part, char* to) {
  before.scale ? pack<Parts, true>(from, before, part, to) : pack<Parts, false>(from, before, part, to);
}

// Meanwhile the panel's next step is fetched into the first level.
template <int Parts>
void multiply(const char* left, const int64_t* places, int64_t count, int64_t part, const char* right, float* sums) {
  constexpr int kProducts = Parts * (Parts + 1) / 2, kLines = Parts * kPartBytes / kRowBytes / kProducts;
  char* const c = reinterpret_cast<char*>(sums);
  begin_sums(c, false);
  for (int64_t s = 0; s < count; ++s) {
    const char* next = right + Parts * kPartBytes;
    parts::products<Parts>(left + places[s], part, right, [&](int) {
      for (int i = 0; i < kLines; ++i, next += kRowBytes) asm volatile("prefetcht0 (%0)" : : "r"(next));
    });
    right += Parts * kPartBytes;
  }
  end_sums(c);
}

// Sums, and sums of squares, of 32 columns in float64.
struct Moments {
  __m512d of[4], squares[4];
  void add(int at, __m512 x) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    of[at] = _mm512_add_pd(of[at], low), of[at + 1] = _mm512_add_pd(of[at + 1], high);
    squares[at] = _mm512_fmadd_pd(low, low, squares[at]),
    squares[at + 1] = _mm512_fmadd_pd(high, high, squares[at + 1]);
  }
};

template <bool Measured>
void finish(const float* sums, const Pixel32& to) {
  const __mmask32 there = first_of(to.outputs);
  const __mmask16 low = static_cast<__mmask16>(there), high = static_cast<__mmask16>(there >> 16);
  __m512 low_bias = _mm512_setzero_ps(), high_bias = _mm512_setzero_ps();
  if (to.bias != nullptr)
    low_bias = _mm512_maskz_loadu_ps(low, to.bias), high_bias = _mm512_maskz_loadu_ps(high, to.bias + 16);
  Moments moments;
  if constexpr (Measured)
    for (int i = 0; i < 4; ++i)
      moments.of[i] = _mm512_loadu_pd(to.moments + 8 * i),
      moments.squares[i] = _mm512_loadu_pd(to.moments + 32 + 8 * i);
  for (int64_t r = 0; r < kSide; ++r, sums += kSide) {
    if (to.places[r] < 0) continue;
    float* const y = to.y + to.places[r];
    __m512 a = _mm512_add_ps(_mm512_load_ps(sums), low_bias), b = _mm512_add_ps(_mm512_load_ps(sums + 16), high_bias);
    if (to.add != nullptr) {
      const float* const add = to.add + to.places[r];
      a = _mm512_add_ps(a, _mm512_maskz_loadu_ps(low, add)),
      b = _mm512_add_ps(b, _mm512_maskz_loadu_ps(high, add + 16));
    }
    put(y, low, a, to.stream), put(y + 16, high, b, to.stream);
    if constexpr (Measured) moments.add(0, a), moments.add(2, b);
  }
  if (to.stream) _mm_sfence();
  if constexpr (Measured)
    for (int i = 0; i < 4; ++i)
      _mm512_storeu_pd(to.moments + 8 * i, moments.of[i]),
          _mm512_storeu_pd(to.moments + 32 + 8 * i, moments.squares[i]);
}

void finish_pixels(const float* sums, const Pixel32& to) {
  to.moments ? finish<true>(sums, to) : finish<false>(sums, to);
}

template <int Parts>
constexpr ConvolutionSteps kSteps = {pack_parts<Parts>, multiply<Parts>, finish_pixels};

}  // namespace convolution

}  // namespace
}  // namespace dmt::amx
