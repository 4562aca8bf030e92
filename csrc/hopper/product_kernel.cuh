// y = (x masked) W^T and dX = (dY W) masked on Hopper, 16 bits. A block makes 128 rows of kColumns results at a time:
// one thread has the copy engine bring tiles of 64 x 64 of both operands into a ring in shared memory, two warpgroups
// multiply them, each 64 rows. For y, x is masked on its way through registers, or taken as it is where a tile is live
// altogether; tiles without anything live are neither read nor multiplied. dX is masked on its way out.
#pragma once

#include "consumer.cuh"

namespace dmt::hopper {

// Has every tile brought that is wanted; one thread.
template <bool kInput, int kColumns>
__device__ void produce(const CUtensorMap* left, const CUtensorMap* right, const Arguments& a,
                        const Ring<kColumns>& ring) {
  constexpr int kAcross = kColumns / kSide;
  Turn turn;
  Item next(a, static_cast<int>(blockIdx.x));
  for (int number = blockIdx.x; number < a.items; number += gridDim.x) {
    const Item item = next;
    next = Item(a, number + static_cast<int>(gridDim.x));
    const int column = item.panel * kColumns;
    for (int t = item.first(a); t < a.depth; t = item.after(a, t)) {
      const bool wanted[kGroups] = {item.wants(0, t), item.wants(1, t)};
      const uint32_t full = ring.is_full(turn.place), to = ring.right(turn.place);
      wait(ring.is_empty(turn.place), turn.phase ^ 1);
      expect(full, (wanted[0] + wanted[1] + kAcross) * kTileBytes);
      for (int g = 0; g < kGroups; ++g)
        if (wanted[g]) load_tile(ring.left(turn.place, g), left, full, t * kSide, item.strip(g) * kSide);
      if constexpr (kInput) {
        for (int j = 0; j < kAcross; ++j) load_tile(to + j * kTileBytes, right, full, column + j * kSide, t * kSide);
      } else {
        load_tile(to, right, full, t * kSide, column);
      }
      turn.advance(a.stages);
    }
  }
}

template <class T, bool kInput, int kColumns>
__global__ void __launch_bounds__(kThreads, 1)
    product_kernel(const __grid_constant__ CUtensorMap left, const __grid_constant__ CUtensorMap right, T* out,
                   const __grid_constant__ Arguments a) {
  const Ring<kColumns> ring(shared_address(launched_memory()), a);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const bool loads = threadIdx.x == 128 * kGroups;
  if (loads) {
    for (int s = 0; s < a.stages; ++s) {
      init(ring.is_full(s), 1);
      init(ring.is_empty(s), 4 * kGroups);  // each warp that multiplies
    }
    publish_barriers();
  }
  __syncthreads();
  wait_for_launch_ahead();
  if (warp < 4 * kGroups) {
    take_registers<kRegisters>();
    Consumer<T, kInput, kColumns>{a, ring, warp / 4, warp % 4, lane, out, {}}.run();
  } else {
    leave_registers<kFewRegisters>();
    if (loads) produce<kInput, kColumns>(&left, &right, a, ring);
  }
}

}  // namespace dmt::hopper
