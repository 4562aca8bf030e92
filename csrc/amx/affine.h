// What is done to every pixel between two convolutions: scale, shift, leaky ReLU.
#pragma once

#include "pack.h"

namespace dmt::amx {
namespace {

// Past the caches, if `stream`: what is written is whole vectors, each in a line of its own, then.
inline void put(float* to, __mmask16 there, __m512 value, bool stream) {
  if (stream && there != 0)
    _mm512_stream_ps(to, value);
  else
    _mm512_mask_storeu_ps(to, there, value);
}

// Sixteen channels of it.
struct Lanes {
  __m512 scale, shift, slope;

  Lanes() = default;
  Lanes(const Affine& of, int64_t channel, __mmask16 there)
      : scale(_mm512_maskz_loadu_ps(there, of.scale + channel)),
        shift(_mm512_maskz_loadu_ps(there, of.shift + channel)),
        slope(_mm512_set1_ps(of.slope)) {}

  __m512 operator()(__m512 x) const {
    const __m512 y = _mm512_fmadd_ps(x, scale, shift);
    return _mm512_mask_mul_ps(y, _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_LT_OQ), y, slope);
  }
};

// Pixels in a row of memory: y = affine(x) + affine(other), or + other where that one has no scale, or nothing.
template <bool Other, bool Changed>
inline void sum(const Modulation& of, int64_t pixels) {
  for (int64_t c = 0; c < of.channels; c += 16) {
    const __mmask16 there = static_cast<__mmask16>(first_of(of.channels - c));
    const Lanes first(of.first, c, there);
    Lanes second{};
    if constexpr (Changed) second = {of.second, c, there};
    for (int64_t p = 0; p < pixels; ++p) {
      const int64_t at = p * of.channels + c;
      __m512 y = first(_mm512_maskz_loadu_ps(there, of.x + at));
      if constexpr (Other) {
        const __m512 other = _mm512_maskz_loadu_ps(there, of.other + at);
        y = _mm512_add_ps(y, Changed ? second(other) : other);
      }
      put(of.y + at, there, y, of.stream);
    }
  }
}

void modulate(const Modulation& of, int64_t pixels) {
  if (of.other == nullptr)
    sum<false, false>(of, pixels);
  else if (of.second.scale == nullptr)
    sum<true, false>(of, pixels);
  else
    sum<true, true>(of, pixels);
  if (of.stream) _mm_sfence();  // for threads that read it next
}

// The mean of two by two pixels of affine(x), `row` numbers from one row of them to the next.
void pool(const Modulation& of, int64_t row, int64_t pixels) {
  const __m512 quarter = _mm512_set1_ps(0.25f);
  for (int64_t c = 0; c < of.channels; c += 16) {
    const __mmask16 there = static_cast<__mmask16>(first_of(of.channels - c));
    const Lanes affine(of.first, c, there);
    for (int64_t p = 0; p < pixels; ++p) {
      const float* const x = of.x + 2 * p * of.channels + c;
      const auto at = [&](int64_t offset) { return affine(_mm512_maskz_loadu_ps(there, x + offset)); };
      const __m512 sum =
          _mm512_add_ps(_mm512_add_ps(at(0), at(of.channels)), _mm512_add_ps(at(row), at(row + of.channels)));
      put(of.y + p * of.channels + c, there, _mm512_mul_ps(sum, quarter), of.stream);
    }
  }
  if (of.stream) _mm_sfence();
}

}  // namespace
}  // namespace dmt::amx
