// Products of float32 on matrix tiles: each number is the sum of three of bfloat16,
//
//   x = high + middle + low,   |middle| <= 2^-8 |x|,   |low| <= 2^-15 |x|,
//
// and a product of two the sum of six products, which tiles make exactly and sum in float32; what is left away,
// middle low + low middle + low low, is at most 2^-22 of it. Only what is close to the least normal numbers has fewer
// parts: denormal ones count as 0. Numbers that are not finite, or round to what is not, give NaN, which `finish`
// tells.
#pragma once

#include "../sparse_linear/vector.h"
#include "block.h"

namespace dmt::amx {
namespace {

constexpr int kParts = 3;

namespace parts {

// Of sixteen numbers: the parts are the upper halves of the lanes; the lower ones are 0, but for `low`, where they are
// to be ignored.
struct Split {
  __m512i high, middle, low;
};

inline __m512i less(__m512i a, __m512i b) {
  return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}

// `high` to the nearest, so that `middle` has either sign; the rest is cut off.
inline Split split(__m512i x) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  Split s;
  s.high = _mm512_and_si512(_mm512_add_epi32(x, _mm512_set1_epi32(0x8000)), upper);
  const __m512i rest = less(x, s.high);
  s.middle = _mm512_and_si512(rest, upper);
  s.low = less(rest, s.middle);
  return s;
}

inline __m512i pair(__m512i even, __m512i odd) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(even, 16), odd);
}

// Numbers in pairs, a part behind the other. Depths of a step are paired as they come out of vectors: i with 16 + i.
inline void put_pairs(void* to, int64_t vector, __m512i first, __m512i second) {
  const Split a = split(first), b = split(second);
  char* const step = static_cast<char*>(to);
  put(step, vector, pair(a.high, b.high));
  put(step + kPartBytes, vector, pair(a.middle, b.middle));
  put(step + 2 * kPartBytes, vector, pair(a.low, b.low));
}

// The 32 numbers from `column` on; where there are none, or none that is live, 0. Plain: as in pack.h.
struct Row {
  __m512i first, second;
};
template <bool Plain>
inline Row row_of(const Operand& m, int64_t row, int64_t column) {
  const float* const from = at<float>(m, row, column);
  if constexpr (Plain) return {_mm512_loadu_si512(from), _mm512_loadu_si512(from + 16)};
  if (row >= m.rows) return {_mm512_setzero_si512(), _mm512_setzero_si512()};
  const __mmask32 there = live(m, row, column);
  return {_mm512_maskz_loadu_epi32(static_cast<__mmask16>(there), from),
          _mm512_maskz_loadu_epi32(static_cast<__mmask16>(there >> 16), from + 16)};
}

// Pieces are vectors of each part; across, halves of a step.
template <bool Plain>
inline void pairs_along_rows(const Operand& m, int64_t row, int64_t column, int begin, int end, void* step) {
  for (int r = begin; r < end; ++r) {
    const Row values = row_of<Plain>(m, row + r, column);
    put_pairs(step, r, values.first, values.second);
  }
}

void left_rows(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  plain(m, first, depth) ? pairs_along_rows<true>(m, first, depth, begin, end, step)
                         : pairs_along_rows<false>(m, first, depth, begin, end, step);
}

template <bool Plain>
inline void pairs_down_columns(const Operand& m, int64_t row, int64_t column, int begin, int end, void* step) {
  for (int r = begin; r < end; ++r) {
    const Row a = row_of<Plain>(m, row + r, column), b = row_of<Plain>(m, row + 16 + r, column);
    put_pairs(step, r, a.first, b.first);
    put_pairs(step, 16 + r, a.second, b.second);
  }
}

void right_rows(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  plain(m, depth, first) ? pairs_down_columns<true>(m, depth, first, begin, end, step)
                         : pairs_down_columns<false>(m, depth, first, begin, end, step);
}

// Across: half of a step is brought to one place before it is turned, since rows a power of two apart share few places
// in the first-level cache.
struct Turned {
  alignas(64) float rows[2 * 16 * 16];

  // Four columns of sixteen rows at `first` and, in pairs with them, at `second`: four rows of a step from `vector` on.
  void put(void* step, int64_t vector, int64_t first, int64_t second, int64_t stride) const {
    sparse_linear::Vector<float> even[4], odd[4];
    sparse_linear::transpose_strip(rows + first, stride, even);
    sparse_linear::transpose_strip(rows + second, stride, odd);
    for (int i = 0; i < 4; ++i) put_pairs(step, vector + i, (__m512i)even[i], (__m512i)odd[i]);
  }
};

template <bool Plain>
inline void columns_turned(const Operand& m, int64_t row, int64_t column, int half, void* step) {
  Turned t;
  for (int r = 0; r < kSide; ++r) {
    const Row values = row_of<Plain>(m, row + r, column);
    put(t.rows, r, half == 0 ? values.first : values.second);
  }
  for (int c = 0; c < 16; c += 4) t.put(step, 16 * half + c, c, 16 * 16 + c, 16);
}

template <bool Plain>
inline void rows_turned(const Operand& m, int64_t row, int64_t column, int half, void* step) {
  Turned t;
  for (int r = 0; r < 16; ++r) {
    const Row values = row_of<Plain>(m, row + 16 * half + r, column);
    put(t.rows, 2 * r, values.first), put(t.rows, 2 * r + 1, values.second);
  }
  for (int c = 0; c < 16; c += 4) t.put(step, 16 * half + c, c, 16 + c, kSide);
}

void left_across(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  for (int half = begin; half < end; ++half)
    plain(m, depth, first) ? columns_turned<true>(m, depth, first, half, step)
                           : columns_turned<false>(m, depth, first, half, step);
}

void right_across(const Operand& m, int64_t first, int64_t depth, int begin, int end, void* step) {
  for (int half = begin; half < end; ++half)
    plain(m, first, depth) ? rows_turned<true>(m, first, depth, half, step)
                           : rows_turned<false>(m, first, depth, half, step);
}

// A step of depth: six products of parts (of two parts three, of one part one), in an order in which one of the two is
// always there already. The parts of the left operand are `part` bytes apart. With more than one there are more
// products than loads, so that the units of vectors have time for something else: beside(i) after the i-th.
template <int Parts, class Beside>
inline void products(const char* a, int64_t part, const char* b, const Beside& beside) {
  const auto load_left = [](const char* from) { load<4>(from, kRowBytes), load<5>(from + kPartBytes / 2, kRowBytes); };
  const auto load_right = [](const char* from) { load<6>(from, kRowBytes), load<7>(from + kPartBytes / 2, kRowBytes); };
  const char *a_middle = a + part, *b_middle = b + kPartBytes;
  if constexpr (Parts == 3) {
    load_left(a_middle + part), load_right(b), dots(), beside(0);
    load_left(a), load_right(b_middle + kPartBytes), dots(), beside(1);
    load_right(b_middle), dots(), beside(2);
    load_left(a_middle), dots(), beside(3);
    load_right(b), dots(), beside(4);
    load_left(a), dots(), beside(5);
  } else if constexpr (Parts == 2) {
    load_left(a_middle), load_right(b), dots(), beside(0);
    load_left(a), dots(), beside(1);
    load_right(b_middle), dots(), beside(2);
  } else {
    load_left(a), load_right(b), dots(), beside(0);
  }
}

void multiply(const Left& left, const void* right, const Chosen& chosen, bool adds, float* sums, const Job* job,
              const Ahead&) {
  char* const c = reinterpret_cast<char*>(sums);
  begin_sums(c, adds);
  Share<6> share(job, kParts * kPartBytes);
  for (int64_t s = 0; s < chosen.count; ++s) {
    const int64_t at = (chosen.list ? chosen.list[s] : s) * kParts * kPartBytes;
    products<kParts>(static_cast<const char*>(left.data) + at, kPartBytes, static_cast<const char*>(right) + at,
                     [&](int i) { share.slot(i); });
    share.next();
  }
  share.rest();
  end_sums(c);
}

bool finish(const float* sums, const Result& to, int64_t row, int64_t column) {
  constexpr int kNotFinite = 0x99;  // NaN of both kinds, infinite of both signs
  const __mmask32 there = first_of(to.columns - column);
  const __mmask16 low = static_cast<__mmask16>(there), high = static_cast<__mmask16>(there >> 16);
  __m512 low_bias = _mm512_setzero_ps(), high_bias = _mm512_setzero_ps();
  if (to.bias != nullptr) {
    const float* const bias = static_cast<const float*>(to.bias) + column;
    low_bias = _mm512_maskz_loadu_ps(low, bias), high_bias = _mm512_maskz_loadu_ps(high, bias + 16);
  }
  __mmask16 odd = 0;
  for (int64_t r = 0; r < kSide && row + r < to.rows; ++r, sums += kSide) {
    const int64_t at = row + r;
    __mmask32 kept = there;
    if (to.mask.bits != nullptr) kept = half(to.mask.bits + at * to.mask.stride, column, to.columns);
    const __m512 a = _mm512_maskz_add_ps(static_cast<__mmask16>(kept), _mm512_load_ps(sums), low_bias);
    const __m512 b = _mm512_maskz_add_ps(static_cast<__mmask16>(kept >> 16), _mm512_load_ps(sums + 16), high_bias);
    odd |= _mm512_fpclass_ps_mask(a, kNotFinite) | _mm512_fpclass_ps_mask(b, kNotFinite);
    float* const place = static_cast<float*>(to.data) + at * to.stride + column;
    _mm512_mask_storeu_ps(place, low, a), _mm512_mask_storeu_ps(place + 16, high, b);
  }
  return odd == 0;
}

}  // namespace parts

constexpr Steps kFloat = {4,
                          kParts * kPartBytes,
                          512,
                          Order::kPlain,
                          {parts::left_rows, 32},
                          {parts::left_across, 2},
                          {parts::right_rows, 16},
                          {parts::right_across, 2},
                          live_in_rows,
                          live_in_columns,
                          parts::multiply,
                          parts::finish};

}  // namespace
}  // namespace dmt::amx
