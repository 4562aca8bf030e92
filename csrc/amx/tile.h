// The matrix tiles of AMX: eight registers of 16 rows of 64 bytes each, and products of them.
//
// Written as instructions, not with the compiler's intrinsics, so that a compiler needs no option for them. With
// DMT_AMX_ON_HOST the same names are plain loops, for tests on processors without tiles. Numbers of bfloat16 are
// multiplied exactly and summed in float32; denormal ones count as 0.
#pragma once

#include <cstdint>
#include <cstring>

namespace dmt::amx {
namespace {

constexpr int kTileRows = 16, kTileBytes = 64;
constexpr int kTileDepth = kTileBytes / 2;  // numbers of 16 bits in a row

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

#if defined(__x86_64__) && !defined(DMT_AMX_ON_HOST) && !defined(DMT_NO_AMX)

// Tiles belong to a thread, and libraries remember what they configured: it is put back.
class Tiles {
 public:
  Tiles() {
    asm volatile("sttilecfg %0" : "=m"(before_));
    TileConfig all;
    for (int t = 0; t < 8; ++t) all.row_bytes[t] = kTileBytes, all.rows[t] = kTileRows;
    asm volatile("ldtilecfg %0" : : "m"(all));
  }
  ~Tiles() {
    if (before_.palette == 0) {
      asm volatile("tilerelease");
    } else {
      asm volatile("ldtilecfg %0" : : "m"(before_));
    }
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  TileConfig before_;
};

template <int T>
inline void clear() {
  asm volatile("tilezero %%tmm%c0" : : "i"(T));
}
// Sixteen rows of 64 bytes, `stride` bytes apart.
template <int T>
inline void load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
inline void store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
}
// C [16][16] += A [16][32] B [32][16]: A and B of bfloat16, B in pairs of rows [16][16][2], C of float32.
template <int C, int A, int B>
inline void dot() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

#else

struct Tiles {
  Tiles() {}
};

inline uint8_t (&tile(int t)) [kTileRows][kTileBytes] {
  static thread_local uint8_t tiles[8][kTileRows][kTileBytes];
  return tiles[t];
} inline float wide(const uint8_t* from) {
  uint16_t half;
  std::memcpy(&half, from, 2);
  const uint32_t bits = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

template <int T>
inline void clear() {
  std::memset(tile(T), 0, sizeof(tile(T)));
}
template <int T>
inline void load(const void* from, int64_t stride) {
  for (int r = 0; r < kTileRows; ++r) std::memcpy(tile(T)[r], static_cast<const char*>(from) + r * stride, kTileBytes);
}
template <int T>
inline void store(void* to, int64_t stride) {
  for (int r = 0; r < kTileRows; ++r) std::memcpy(static_cast<char*>(to) + r * stride, tile(T)[r], kTileBytes);
}
template <int C, int A, int B>
inline void dot() {
  for (int m = 0; m < kTileRows; ++m) {
    float sums[16];
    std::memcpy(sums, tile(C)[m], sizeof(sums));
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < kTileDepth; ++k)
        sums[n] += wide(&tile(A)[m][2 * k]) * wide(&tile(B)[k / 2][4 * n + 2 * (k % 2)]);
    std::memcpy(tile(C)[m], sums, sizeof(sums));
  }
}

#endif

}  // namespace
}  // namespace dmt::amx
