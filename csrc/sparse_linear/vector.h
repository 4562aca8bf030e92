// Vectors of the width this translation unit is compiled for, in GNU vector extensions: one source for every
// instruction set. Everything sits in an unnamed namespace, so that no code of one set is ever linked into another.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define DMT_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define DMT_VECTOR_BYTES 32
#else
#define DMT_VECTOR_BYTES 16
#endif

namespace dmt::sparse_linear {
namespace {

struct Bfloat16 {
  uint16_t bits;
};
struct Half {
  _Float16 value;
};

inline float to_sum(float v) { return v; }
inline double to_sum(double v) { return v; }
inline float to_sum(Half v) { return static_cast<float>(v.value); }
inline float to_sum(Bfloat16 v) {
  const uint32_t wide = uint32_t{v.bits} << 16;
  float out;
  std::memcpy(&out, &wide, sizeof out);
  return out;
}

inline void from_sum(float v, float& out) { out = v; }
inline void from_sum(double v, double& out) { out = v; }
inline void from_sum(float v, Half& out) { out.value = static_cast<_Float16>(v); }
inline void from_sum(float v, Bfloat16& out) {
  uint32_t wide;
  std::memcpy(&wide, &v, sizeof wide);
  const uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;  // to nearest even
  out.bits = (wide & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : static_cast<uint16_t>(rounded);
}

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(DMT_VECTOR_BYTES)));
  typedef float Loose __attribute__((vector_size(DMT_VECTOR_BYTES), aligned(4), may_alias));
  typedef int32_t Index __attribute__((vector_size(DMT_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(DMT_VECTOR_BYTES)));
  typedef double Loose __attribute__((vector_size(DMT_VECTOR_BYTES), aligned(8), may_alias));
  typedef int64_t Index __attribute__((vector_size(DMT_VECTOR_BYTES)));
};

template <class T>
using Vector = typename VectorOf<T>::Type;
template <class T>
constexpr int kLanes = DMT_VECTOR_BYTES / sizeof(T);

template <class T>
inline Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::Loose*>(p);
}
template <class T>
inline void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename VectorOf<T>::Loose*>(p) = v;
}

// As many operands as a vector has lanes, as sums, and back. The compiler makes vectors of these loops, but for
// float16.
template <class S>
using Sum = decltype(to_sum(S{}));
template <class S>
inline Vector<Sum<S>> load_sums(const S* p) {
  using T = Sum<S>;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<S, Half>)
    return (Vector<T>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<S, Half>)
    return (Vector<T>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
  alignas(DMT_VECTOR_BYTES) T wide[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) wide[i] = to_sum(p[i]);
  return load(wide);
}
template <class S>
inline void store_sums(S* p, Vector<Sum<S>> v) {
  using T = Sum<S>;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<S, Half>)
    return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<S, Half>)
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#endif
  alignas(DMT_VECTOR_BYTES) T wide[kLanes<T>];
  store(wide, v);
  for (int i = 0; i < kLanes<T>; ++i) from_sum(wide[i], p[i]);
}

// v in every lane. Less zero, which changes nothing and folds away; plus zero would make +0 of -0, so it would stay.
template <class T>
inline Vector<T> everywhere(T v) {
  return v - Vector<T>{};
}

// Lanes of the two halves of every group of `G`: (a.low | b.low) for High = false, (a.high | b.high) otherwise.
template <class T, int G, bool High, int... L>
inline Vector<T> halves(Vector<T> a, Vector<T> b, std::integer_sequence<int, L...>) {
  constexpr int n = sizeof...(L), h = G / 2;
  using Index = typename VectorOf<T>::Index;
  const Index pick = {((L & (G - 1)) < h ? 0 : n) + (L & ~(G - 1)) + (High ? h : 0) + (L & (h - 1))...};
  return __builtin_shuffle(a, b, pick);
}
template <class T, int G>
inline Vector<T> low_halves(Vector<T> a, Vector<T> b) {
  return halves<T, G, false>(a, b, std::make_integer_sequence<int, kLanes<T>>{});
}
template <class T, int G>
inline Vector<T> high_halves(Vector<T> a, Vector<T> b) {
  return halves<T, G, true>(a, b, std::make_integer_sequence<int, kLanes<T>>{});
}

// v[0 .. lanes) transposed in registers.
template <class T, int G = kLanes<T>>
inline void transpose_square(Vector<T>* v) {
  constexpr int n = kLanes<T>, h = G / 2;
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) {
    if (i & h) continue;
    const Vector<T> a = v[i], b = v[i + h];
    v[i] = low_halves<T, G>(a, b);
    v[i + h] = high_halves<T, G>(a, b);
  }
  if constexpr (h > 1) transpose_square<T, h>(v);
}

#if defined(__AVX512F__)
// Rows 0, 4, 8 and 12 of four columns.
inline __m512 every_fourth(const float* from, int64_t stride) {
  __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(from));
  v = _mm512_insertf32x4(v, _mm_loadu_ps(from + 4 * stride), 1);
  v = _mm512_insertf32x4(v, _mm_loadu_ps(from + 8 * stride), 2);
  return _mm512_insertf32x4(v, _mm_loadu_ps(from + 12 * stride), 3);
}

// 16 rows of four columns -> four rows of 16. Quarters of a vector go to their place as they are loaded, which leaves
// half as many shuffles as `transpose_square` has: there is one unit for those.
inline void transpose_strip(const float* from, int64_t stride, float* to, int64_t target_stride) {
  const __m512 a = every_fourth(from, stride), b = every_fourth(from + stride, stride);
  const __m512 c = every_fourth(from + 2 * stride, stride), d = every_fourth(from + 3 * stride, stride);
  const __m512 low_ab = _mm512_unpacklo_ps(a, b), low_cd = _mm512_unpacklo_ps(c, d);
  const __m512 high_ab = _mm512_unpackhi_ps(a, b), high_cd = _mm512_unpackhi_ps(c, d);
  _mm512_storeu_ps(to, _mm512_shuffle_ps(low_ab, low_cd, 0x44));
  _mm512_storeu_ps(to + target_stride, _mm512_shuffle_ps(low_ab, low_cd, 0xee));
  _mm512_storeu_ps(to + 2 * target_stride, _mm512_shuffle_ps(high_ab, high_cd, 0x44));
  _mm512_storeu_ps(to + 3 * target_stride, _mm512_shuffle_ps(high_ab, high_cd, 0xee));
}
#elif defined(__AVX2__)
inline __m256 every_fourth(const float* from, int64_t stride) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)), _mm_loadu_ps(from + 4 * stride), 1);
}

// The same of 8 rows.
inline void transpose_strip(const float* from, int64_t stride, float* to, int64_t target_stride) {
  const __m256 a = every_fourth(from, stride), b = every_fourth(from + stride, stride);
  const __m256 c = every_fourth(from + 2 * stride, stride), d = every_fourth(from + 3 * stride, stride);
  const __m256 low_ab = _mm256_unpacklo_ps(a, b), low_cd = _mm256_unpacklo_ps(c, d);
  const __m256 high_ab = _mm256_unpackhi_ps(a, b), high_cd = _mm256_unpackhi_ps(c, d);
  _mm256_storeu_ps(to, _mm256_shuffle_ps(low_ab, low_cd, 0x44));
  _mm256_storeu_ps(to + target_stride, _mm256_shuffle_ps(low_ab, low_cd, 0xee));
  _mm256_storeu_ps(to + 2 * target_stride, _mm256_shuffle_ps(high_ab, high_cd, 0x44));
  _mm256_storeu_ps(to + 3 * target_stride, _mm256_shuffle_ps(high_ab, high_cd, 0xee));
}
#endif

// One vector whose lane i is the sum over the lanes of v[i]; v is used up.
template <class T, int G = kLanes<T>>
inline Vector<T> sum_each(Vector<T>* v) {
  constexpr int h = G / 2;
#pragma GCC unroll 16
  for (int i = 0; i < h; ++i) v[i] = low_halves<T, G>(v[i], v[i + h]) + high_halves<T, G>(v[i], v[i + h]);
  if constexpr (h > 1)
    return sum_each<T, h>(v);
  else
    return v[0];
}

}  // namespace
}  // namespace dmt::sparse_linear
