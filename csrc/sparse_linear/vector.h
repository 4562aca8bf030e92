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

#if defined(__AVX2__)
// Rows 0, 4, 8 .. of four columns: as many as a vector has groups of four lanes.
inline Vector<float> every_fourth(const float* from, int64_t stride) {
#if defined(__AVX512F__)
  __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(from));
  v = _mm512_insertf32x4(v, _mm_loadu_ps(from + 4 * stride), 1);
  v = _mm512_insertf32x4(v, _mm_loadu_ps(from + 8 * stride), 2);
  return (Vector<float>)_mm512_insertf32x4(v, _mm_loadu_ps(from + 12 * stride), 3);
#else
  const __m256 v = _mm256_castps128_ps256(_mm_loadu_ps(from));
  return (Vector<float>)_mm256_insertf128_ps(v, _mm_loadu_ps(from + 4 * stride), 1);
#endif
}

// Of every group of four lanes the first two, or for High the last two, of a and b in turn: (a0 b0 a1 b1). `halves` of
// groups of two, which could end a transposition as well, are two instructions each.
template <bool High, int... L>
inline Vector<float> in_turn(Vector<float> a, Vector<float> b, std::integer_sequence<int, L...>) {
  const VectorOf<float>::Index pick = {(L & 1 ? int(sizeof...(L)) : 0) + (L & ~3) + (High ? 2 : 0) + (L & 2) / 2 ...};
  return __builtin_shuffle(a, b, pick);
}

// As many rows as there are lanes, of four columns -> four rows. Groups of four lanes go to their place as they are
// loaded, which leaves half as many shuffles as `transpose_square` has: there is one unit for those.
inline void transpose_strip(const float* from, int64_t stride, Vector<float> (&rows)[4]) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<float>>{};
  const Vector<float> a = every_fourth(from, stride), b = every_fourth(from + stride, stride);
  const Vector<float> c = every_fourth(from + 2 * stride, stride), d = every_fourth(from + 3 * stride, stride);
  const Vector<float> low_ab = in_turn<false>(a, b, lanes), low_cd = in_turn<false>(c, d, lanes);
  const Vector<float> high_ab = in_turn<true>(a, b, lanes), high_cd = in_turn<true>(c, d, lanes);
  rows[0] = low_halves<float, 4>(low_ab, low_cd);
  rows[1] = high_halves<float, 4>(low_ab, low_cd);
  rows[2] = low_halves<float, 4>(high_ab, high_cd);
  rows[3] = high_halves<float, 4>(high_ab, high_cd);
}
inline void transpose_strip(const float* from, int64_t stride, float* to, int64_t target_stride) {
  Vector<float> rows[4];
  transpose_strip(from, stride, rows);
  for (int i = 0; i < 4; ++i) store(to + i * target_stride, rows[i]);
}
#endif

// (a.low | b.high) of every group of G, each where it lies: which more units of a processor can do than move it, but
// compilers move it where they can.
template <class T, int G, int... L>
inline Vector<T> merge(Vector<T> a, Vector<T> b, std::integer_sequence<int, L...>) {
#if defined(__AVX512F__)
  constexpr uint32_t high = ((L & G / 2 ? 1u << L : 0u) | ...);
  if constexpr (sizeof(T) == 4)
    return (Vector<T>)_mm512_mask_blend_ps(static_cast<__mmask16>(high), (__m512)a, (__m512)b);
  else
    return (Vector<T>)_mm512_mask_blend_pd(static_cast<__mmask8>(high), (__m512d)a, (__m512d)b);
#else
  const typename VectorOf<T>::Index pick = {L + (L & G / 2 ? int(sizeof...(L)) : 0)...};
  return __builtin_shuffle(a, b, pick);
#endif
}

// (a.high | b.low) of every group of G.
template <class T, int G, int... L>
inline Vector<T> cross(Vector<T> a, Vector<T> b, std::integer_sequence<int, L...>) {
  const typename VectorOf<T>::Index pick = {(L ^ G / 2) + (L & G / 2 ? int(sizeof...(L)) : 0)...};
  return __builtin_shuffle(a, b, pick);
}

// One vector whose lane i is the sum over the lanes of v[i]; v is used up.
template <class T, int G = kLanes<T>>
inline Vector<T> sum_each(Vector<T>* v) {
  constexpr int h = G / 2;
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<T>>{};
#pragma GCC unroll 16
  for (int i = 0; i < h; ++i) v[i] = merge<T, G>(v[i], v[i + h], lanes) + cross<T, G>(v[i], v[i + h], lanes);
  if constexpr (h > 1)
    return sum_each<T, h>(v);
  else
    return v[0];
}

}  // namespace
}  // namespace dmt::sparse_linear
