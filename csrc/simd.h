// Sixteen lanes of arithmetic, for the instruction set of the translation unit that includes this.
//
// Every name lives in a namespace of its instruction set, and nothing here instantiates templates of the standard
// library: otherwise the linker may keep the AVX-512 copy of an inline function for all, and it would run on a
// processor without. For the same reason these units include no torch header.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define DMT_ISA avx512
#elif defined(__AVX2__)
#define DMT_ISA avx2
#else
#define DMT_ISA baseline
#endif

namespace dmt {

// 16-bit floats as they lie in memory.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

namespace DMT_ISA {

constexpr int kLanes = 16;

inline float to_float(BFloat16 value) {
  const uint32_t wide = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &wide, 4);
  return result;
}

inline BFloat16 to_bfloat16(float value) {
  uint32_t wide;
  std::memcpy(&wide, &value, 4);
  if ((wide & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((wide >> 16) | 0x40)};  // stays a NaN
  return {static_cast<uint16_t>((wide + 0x7fff + ((wide >> 16) & 1)) >> 16)};                   // to nearest even
}

inline float to_float(Float16 value) {
#if defined(__F16C__)
  return _cvtsh_ss(value.bits);
#else
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  const uint32_t exponent = (value.bits >> 10) & 31, fraction = value.bits & 1023;
  uint32_t wide = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
  float result;
  std::memcpy(&result, &wide, 4);
  if (exponent == 0) result = (sign ? -1.0f : 1.0f) * static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
  return result;
#endif
}

inline Float16 to_float16(float value) {
#if defined(__F16C__)
  return {static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT))};
#else
  uint32_t wide;
  std::memcpy(&wide, &value, 4);
  const uint16_t sign = static_cast<uint16_t>((wide >> 16) & 0x8000);
  wide &= 0x7fffffffu;
  if (wide > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (wide >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00)};  // 65520 and up round to infinity
  if (wide < 0x38800000u) {                                                // below 2^-14: subnormal, in steps of 2^-24
    float magnitude;
    std::memcpy(&magnitude, &wide, 4);
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 16777216.0f)))};
  }
  wide += 0xfff + ((wide >> 13) & 1) - (112u << 23);
  return {static_cast<uint16_t>(sign | (wide >> 13))};
#endif
}

inline float widen(float v) { return v; }
inline double widen(double v) { return v; }
inline float widen(BFloat16 v) { return to_float(v); }
inline float widen(Float16 v) { return to_float(v); }
inline void narrow(float v, float* to) { *to = v; }
inline void narrow(double v, double* to) { *to = v; }
inline void narrow(float v, BFloat16* to) { *to = to_bfloat16(v); }
inline void narrow(float v, Float16* to) { *to = to_float16(v); }

// The portable form, for float where there is nothing better and for double everywhere.
template <typename A>
struct Lanes {
  using Scalar = A;
  A v[kLanes];

  struct Mask {
    uint32_t m;
    uint32_t bits() const { return m; }
    Mask operator&(Mask o) const { return {m & o.m}; }
  };
  // Of many vectors: lanes eight apart are added, and the eight that are left go on in double.
  struct Sum {
    double v[8] = {};
    void add(const Lanes& x) {
      for (int i = 0; i < 8; ++i) v[i] += static_cast<double>(x.v[i] + x.v[i + 8]);
    }
    double total() const { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }
  };

  static Lanes all(A a) {
    Lanes r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = a;
    return r;
  }
  template <typename T>
  static Lanes load(const T* from) {
    Lanes r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = widen(from[i]);
    return r;
  }
  template <typename T>
  void store(T* to) const {
    for (int i = 0; i < kLanes; ++i) narrow(v[i], to + i);
  }
  template <typename T>
  void stream(T* to) const {
    store(to);
  }
#define DMT_LANEWISE(op)                                      \
  Lanes operator op(const Lanes& o) const {                   \
    Lanes r;                                                  \
    for (int i = 0; i < kLanes; ++i) r.v[i] = v[i] op o.v[i]; \
    return r;                                                 \
  }
  DMT_LANEWISE(+)
  DMT_LANEWISE(-)
  DMT_LANEWISE(*)
#undef DMT_LANEWISE
  Lanes abs() const {
    Lanes r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = std::fabs(v[i]);
    return r;
  }
  Lanes times_plus(const Lanes& b, const Lanes& c) const { return *this * b + c; }
  Lanes plus_where(Mask m, const Lanes& o) const { return *this + o.where(m); }
  Lanes plus_square_where(Mask m, const Lanes& o) const { return *this + (o * o).where(m); }
  Mask operator>(const Lanes& o) const {
    uint32_t m = 0;
    for (int i = 0; i < kLanes; ++i) m |= static_cast<uint32_t>(v[i] > o.v[i]) << i;
    return {m};
  }
  Lanes where(Mask m) const {  // 0 elsewhere
    Lanes r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = (m.m >> i) & 1 ? v[i] : A(0);
    return r;
  }
  void add_to(double* to) const {
    for (int i = 0; i < kLanes; ++i) to[i] += static_cast<double>(v[i]);
  }
};

#if defined(__AVX512F__)

struct Float16x {
  using Scalar = float;
  __m512 v;

  struct Mask {
    __mmask16 m;
    uint32_t bits() const { return m; }
    Mask operator&(Mask o) const { return {static_cast<__mmask16>(m & o.m)}; }
  };
  struct Sum {
    __m512d v = _mm512_setzero_pd();
    void add(Float16x x) {
      const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
      v = _mm512_add_pd(v, _mm512_cvtps_pd(half));
    }
    double total() const { return _mm512_reduce_add_pd(v); }
  };

  static Float16x all(float a) { return {_mm512_set1_ps(a)}; }
  static Float16x load(const float* from) { return {_mm512_loadu_ps(from)}; }
  static Float16x load(const BFloat16* from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
  }
  static Float16x load(const Float16* from) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
  }
  void store(float* to) const { _mm512_storeu_ps(to, v); }
  void store(BFloat16* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), as_bfloat16()); }
  void store(Float16* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), as_float16()); }
  // Past the caches; `to` is aligned to the vector.
  void stream(float* to) const { _mm512_stream_ps(to, v); }
  void stream(BFloat16* to) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), as_bfloat16()); }
  void stream(Float16* to) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), as_float16()); }
  __m256i as_float16() const { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
  __m256i as_bfloat16() const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i result = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16));
  }
  Float16x operator+(Float16x o) const { return {_mm512_add_ps(v, o.v)}; }
  Float16x operator-(Float16x o) const { return {_mm512_sub_ps(v, o.v)}; }
  Float16x operator*(Float16x o) const { return {_mm512_mul_ps(v, o.v)}; }
  Float16x abs() const { return {_mm512_abs_ps(v)}; }
  Float16x times_plus(Float16x b, Float16x c) const { return {_mm512_fmadd_ps(v, b.v, c.v)}; }
  Float16x plus_where(Mask m, Float16x o) const { return {_mm512_mask_add_ps(v, m.m, v, o.v)}; }
  Float16x plus_square_where(Mask m, Float16x o) const { return {_mm512_mask3_fmadd_ps(o.v, o.v, v, m.m)}; }
  Mask operator>(Float16x o) const { return {_mm512_cmp_ps_mask(v, o.v, _CMP_GT_OQ)}; }
  Float16x where(Mask m) const { return {_mm512_maskz_mov_ps(m.m, v)}; }
  void add_to(double* to) const {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                  high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    _mm512_storeu_pd(to, _mm512_add_pd(_mm512_loadu_pd(to), low));
    _mm512_storeu_pd(to + 8, _mm512_add_pd(_mm512_loadu_pd(to + 8), high));
  }
};
using Floats = Float16x;

#elif defined(__AVX2__)

struct Float16x {
  using Scalar = float;
  __m256 a, b;

  struct Mask {
    __m256 a, b;
    uint32_t bits() const {
      return static_cast<uint32_t>(_mm256_movemask_ps(a)) | (static_cast<uint32_t>(_mm256_movemask_ps(b)) << 8);
    }
    Mask operator&(Mask o) const { return {_mm256_and_ps(a, o.a), _mm256_and_ps(b, o.b)}; }
  };
  struct Sum {
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    void add(const Float16x& x) {
      const __m256 half = _mm256_add_ps(x.a, x.b);
      low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(half)));
      high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(half, 1)));
    }
    double total() const {
      double lanes[4];
      _mm256_storeu_pd(lanes, _mm256_add_pd(low, high));
      return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    }
  };

  static Float16x all(float f) { return {_mm256_set1_ps(f), _mm256_set1_ps(f)}; }
  static Float16x load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
  static __m256 widen8(const BFloat16* from) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static __m256 widen8(const Float16* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  template <typename T>
  static Float16x load(const T* from) {
    return {widen8(from), widen8(from + 8)};
  }
  void store(float* to) const {
    _mm256_storeu_ps(to, a);
    _mm256_storeu_ps(to + 8, b);
  }
  static __m256i rounded(__m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i near = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(near, quiet, nan), 16);
  }
  __m256i as_bfloat16() const { return _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded(a), rounded(b)), 0xd8); }
  __m256i as_float16() const {
    return _mm256_set_m128i(_mm256_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  void store(BFloat16* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), as_bfloat16()); }
  void store(Float16* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), as_float16()); }
  // Past the caches; `to` is aligned to 32 bytes.
  void stream(float* to) const {
    _mm256_stream_ps(to, a);
    _mm256_stream_ps(to + 8, b);
  }
  void stream(BFloat16* to) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), as_bfloat16()); }
  void stream(Float16* to) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), as_float16()); }
  Float16x operator+(Float16x o) const { return {_mm256_add_ps(a, o.a), _mm256_add_ps(b, o.b)}; }
  Float16x operator-(Float16x o) const { return {_mm256_sub_ps(a, o.a), _mm256_sub_ps(b, o.b)}; }
  Float16x operator*(Float16x o) const { return {_mm256_mul_ps(a, o.a), _mm256_mul_ps(b, o.b)}; }
  Float16x abs() const {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a), _mm256_andnot_ps(sign, b)};
  }
  Float16x times_plus(Float16x x, Float16x y) const {
    return {_mm256_fmadd_ps(a, x.a, y.a), _mm256_fmadd_ps(b, x.b, y.b)};
  }
  Float16x plus_where(Mask m, Float16x o) const { return *this + o.where(m); }
  Float16x plus_square_where(Mask m, Float16x o) const {
    const Float16x e = o.where(m);
    return e.times_plus(e, *this);
  }
  Mask operator>(Float16x o) const { return {_mm256_cmp_ps(a, o.a, _CMP_GT_OQ), _mm256_cmp_ps(b, o.b, _CMP_GT_OQ)}; }
  Float16x where(Mask m) const { return {_mm256_and_ps(a, m.a), _mm256_and_ps(b, m.b)}; }
  void add_to(double* to) const {
    const __m128 parts[4] = {_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1), _mm256_castps256_ps128(b),
                             _mm256_extractf128_ps(b, 1)};
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_pd(to + 4 * i, _mm256_add_pd(_mm256_loadu_pd(to + 4 * i), _mm256_cvtps_pd(parts[i])));
    }
  }
};
using Floats = Float16x;

#else

using Floats = Lanes<float>;

#endif

// Makes what was streamed visible to other threads before anything that is stored later.
inline void end_stream() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

template <typename T>
struct ArithmeticOf {
  using V = Floats;
};
template <>
struct ArithmeticOf<double> {
  using V = Lanes<double>;
};

}  // namespace DMT_ISA
}  // namespace dmt
