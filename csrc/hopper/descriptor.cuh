// How the tensor cores are told where an operand lies in shared memory.
#pragma once

#include "ptx.cuh"

namespace dmt::hopper {

// A tile: rows of 128 bytes, swizzled, so that 16-byte pieces are exchanged within groups of eight rows. `next_tile`:
// bytes to the tile on the right, where the right operand's rows are wider than one.
__device__ inline uint64_t descriptor(uint32_t tile, int next_tile = 0) {
  constexpr uint64_t kGroupOfRows = 1024 / 16, kSwizzle128 = 1;
  return static_cast<uint64_t>((tile & 0x3ffff) >> 4) | static_cast<uint64_t>(next_tile / 16) << 16 |
         kGroupOfRows << 32 | kSwizzle128 << 62;
}
constexpr uint64_t kStepAlongRow = 32 / 16;    // the next 16 columns of a tile
constexpr uint64_t kStepDown = 16 * 128 / 16;  // the next 16 rows

}  // namespace dmt::hopper
