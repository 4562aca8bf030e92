// In which order rows are gone through, and what is fetched for those that come.
//
// A loop over the live elements of a row ends when a processor does not expect it, and what it had begun beyond the end
// is lost: as much as several elements cost. Rows with as many live elements one after the other end alike.
#pragma once

#include "steps.h"
#include "vector.h"

namespace dmt::sparse_linear {
namespace {

// Which of 64 counts are `c`.
inline uint64_t of_count(const uint8_t* counts, int c) {
#if defined(__AVX512BW__)
  return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(counts), _mm512_set1_epi8(static_cast<char>(c)));
#elif defined(__AVX2__)
  const auto half = [counts, c](int i) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(counts + i));
    const __m256i equal = _mm256_cmpeq_epi8(v, _mm256_set1_epi8(static_cast<char>(c)));
    return static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(equal)));
  };
  return half(0) | half(32) << 32;
#else
  uint64_t found = 0;
  for (int i = 0; i < 64; ++i) found |= static_cast<uint64_t>(counts[i] == c) << i;
  return found;
#endif
}

// [0, 256) in turn: rows without an order.
struct InTurn {
  uint8_t row[kRows];
  constexpr InTurn() : row{} {
    for (int64_t r = 0; r < kRows; ++r) row[r] = static_cast<uint8_t>(r);
  }
};
constexpr InTurn kInTurn;
static_assert(kRows <= 256, "rows of a tile are numbered in bytes");

// base + r for each row r of `rows` <= kRows, by how many `valid` bits of its word are set.
inline void order_rows(const uint64_t* bits, int64_t bits_stride, int64_t rows, uint64_t valid, uint8_t base,
                       uint8_t* order) {
  uint8_t counts[kRows];
  uint64_t rest[kRows / 64];
  const int64_t groups = (rows + 63) / 64;
  for (int64_t r = 0; r < rows; ++r)
    counts[r] = static_cast<uint8_t>(__builtin_popcountll(bits[r * bits_stride] & valid));
  for (int64_t g = 0; g < groups; ++g) rest[g] = valid_bits(g, rows);
  const uint8_t* const end = order + rows;
  for (int c = 0; order < end; ++c)
    for (int64_t g = 0; g < groups; ++g) {
      uint64_t now = rest[g] & of_count(counts + g * 64, c);
      rest[g] ^= now;
      for (; now; now &= now - 1) *order++ = static_cast<uint8_t>(base + g * 64 + __builtin_ctzll(now));
    }
}

// Rows lie far apart, so the processor does not guess the next one: what so many rows will need is fetched while as
// many before them are worked on, in turn, whatever the order of those.
constexpr int64_t kRowsAhead = 4;

inline void fetch(const void* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i);
}

// work(first, count) for [0, rows). far: rows may not be near, and coming(row) fetches one. ahead: bytes from `next` on
// to be fetched with each row, into the second-level cache.
template <class Coming, class Work>
inline void each_strip(int64_t rows, bool far, Coming coming, const void* next, int64_t ahead, Work work) {
  const int64_t strip = far || ahead ? kRowsAhead : rows;
  const char* from = static_cast<const char*>(next);
  for (int64_t r = 0; r < rows; r += strip) {
    const int64_t count = rows - r < strip ? rows - r : strip;
    for (int64_t q = r + strip; far && q < r + 2 * strip && q < rows; ++q) coming(q);
    for (const char* const end = from + count * ahead; from < end; from += 64) __builtin_prefetch(from, 0, 2);
    work(r, count);
  }
}

}  // namespace
}  // namespace dmt::sparse_linear
