// Blocks of 32 x 32 results on matrix tiles, and how they leave.
#pragma once

#include "pack.h"

namespace dmt::amx {
namespace {

constexpr int64_t kSumsBytes = kSide * 4, kHalfBytes = 16 * kSumsBytes;  // of a row of sums [32][32]; of half of them

inline __m512 widened(const uint16_t* from, __mmask16 there) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, from)), 16));
}

// To bfloat16, low first: to the nearest, to even; denormal numbers become 0, as matrix tiles have it.
inline __m512i rounded(__m512 low, __m512 high) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
#else  // in tests on processors without it
  const auto one = [](__m512 value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc00000)), 16));
  };
  return _mm512_inserti64x4(_mm512_castsi256_si512(one(low)), one(high), 1);
#endif
}

// The row of the operand that is row `r` of the block.
inline int64_t place(Order order, int64_t r) {
  return order == Order::kPlain ? r : 8 * (r % 16 / 4) + 4 * (r / 16) + r % 4;
}

// Fetches a line that will be read into the second level, and one that will be written into the first.
inline void fetch(const void* read, const void* written) {
  asm volatile("prefetcht1 (%0)" : : "r"(read));
  asm volatile("prefetchw (%0)" : : "r"(written));
}

bool finish(const float* sums, const Result& to, int64_t row, int64_t column) {
  const __mmask32 there = first_of(to.columns - column);
  const bool paired = to.columns_order == Order::kPaired;
  const __m512i in_turn = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
  __m512 low_bias = _mm512_setzero_ps(), high_bias = _mm512_setzero_ps();
  if (to.bias != nullptr) {  // columns are in their order then
    const uint16_t* const bias = static_cast<const uint16_t*>(to.bias) + column;
    low_bias = widened(bias, static_cast<__mmask16>(there));
    high_bias = widened(bias + 16, static_cast<__mmask16>(there >> 16));
  }
  for (int64_t r = 0; r < kSide; ++r, sums += kSide) {
    const int64_t at = row + place(to.rows_order, r);
    if (at >= to.rows) continue;
    __m512i values =
        rounded(_mm512_add_ps(_mm512_load_ps(sums), low_bias), _mm512_add_ps(_mm512_load_ps(sums + 16), high_bias));
    if (paired) values = _mm512_permutexvar_epi64(in_turn, values);
    if (to.mask.bits != nullptr)
      values = _mm512_maskz_mov_epi16(half(to.mask.bits + at * to.mask.stride, column, to.columns), values);
    _mm512_mask_storeu_epi16(static_cast<uint16_t*>(to.data) + at * to.stride + column, there, values);
  }
  return true;
}

inline void begin_sums(const char* c, bool adds) {
  if (adds) {
    load<0>(c, kSumsBytes), load<1>(c + kTileBytes, kSumsBytes);
    load<2>(c + kHalfBytes, kSumsBytes), load<3>(c + kHalfBytes + kTileBytes, kSumsBytes);
  } else {
    clear<0>(), clear<1>(), clear<2>(), clear<3>();
  }
}

inline void end_sums(char* c) {
  store<0>(c, kSumsBytes), store<1>(c + kTileBytes, kSumsBytes);
  store<2>(c + kHalfBytes, kSumsBytes), store<3>(c + kHalfBytes + kTileBytes, kSumsBytes);
}

// Two tiles of each operand: 4 and 5, 6 and 7.
inline void dots() {
  dot<0, 4, 6>(), dot<1, 4, 7>();
  dot<2, 5, 6>(), dot<3, 5, 7>();
}

// A block's share of a job, of which some is done `Slots` times in each step of a product.
template <int Slots>
class Share {
 public:
  Share(const Job* job, int64_t step_bytes) : job_(job), step_bytes_(step_bytes) {
    if (job == nullptr) return;
    for (int i = 0; i <= Slots; ++i) cut_[i] = job->pack.count * (job->turn * Slots + i) / (job->turns * Slots);
    depth_ = job->begin, to_ = job->panel;
    if (cut_[0] < cut_[Slots]) end_ = job->end;
  }
  void slot(int i) const {
    if (depth_ < end_ && cut_[i] < cut_[i + 1]) make(cut_[i], cut_[i + 1]);
  }
  void next() { depth_ += kDepth, to_ += step_bytes_; }
  // The job may have more steps than the product.
  void rest() {
    for (; depth_ < end_; next()) make(cut_[0], cut_[Slots]);
  }

 private:
  void make(int begin, int end) const { job_->pack.pieces(*job_->of, job_->first, depth_, begin, end, to_); }

  const Job* job_;
  int64_t step_bytes_, depth_ = 0, end_ = 0;
  char* to_ = nullptr;
  int cut_[Slots + 1];
};

// Four products for two tiles of each operand: as many loads as products, which the processor does side by side.
void multiply(const Left& left, const void* right, const Chosen& chosen, bool adds, float* sums, const Job* job,
              const Ahead& ahead) {
  char* const c = reinterpret_cast<char*>(sums);
  begin_sums(c, adds);
  Share<1> share(job, kPartBytes);
  const int64_t stride = left.stride, half = left.half, step = left.step;
  for (int64_t s = 0; s < chosen.count; ++s) {
    const int64_t at = chosen.list ? chosen.list[s] : s;
    const char *a = static_cast<const char*>(left.data) + at * step,
               *b = static_cast<const char*>(right) + at * kPartBytes;
    load<4>(a, stride), load<6>(b, kTileBytes);
    load<7>(b + kPartBytes / 2, kTileBytes), load<5>(a + half, stride);
    dots();
    share.slot(0), share.next();
    for (int i = 0; i < ahead.count; ++i) fetch(ahead.reads[i] + 64 * s, ahead.writes[i] + 64 * s);
  }
  share.rest();
  end_sums(c);
}

constexpr Steps kBfloat16 = {2,
                             kPartBytes,
                             1024,
                             Order::kPaired,
                             {left_rows, 32},
                             {left_across, 2},
                             {right_rows, 16},
                             {right_across, 2},
                             live_in_rows,
                             live_in_columns,
                             multiply,
                             finish};

}  // namespace
}  // namespace dmt::amx
