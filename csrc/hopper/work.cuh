// What a launch of product_kernel.cuh is given, how its blocks share it out, and the ring in shared memory through
// which tiles pass.
#pragma once

#include "ptx.cuh"

namespace dmt::hopper {

constexpr int kSide = 64;  // of a tile: rows, columns
constexpr int kTileBytes = kSide * kSide * 2;
constexpr int kGroups = 2;                     // warpgroups that multiply, a strip of 64 rows each
constexpr int kThreads = 128 * (kGroups + 1);  // the last warpgroup gives its registers to the others
constexpr int kRegisters = 240, kFewRegisters = 24;
constexpr int kMostListed = 64;  // tiles of a strip of the mask that can be told apart

// A strip of the mask: bit t says that tile t has something live, and that it is live altogether.
struct Strip {
  uint64_t live, whole;
};

struct Arguments {
  int64_t rows;
  int items, panels;  // blocks of results: all, and across
  int depth;          // tiles that a sum runs over
  int columns;        // of the result
  int stages;
  const Strip* strips;  // or null: not known
  const uint2* bits;    // [rows, words]: the mask, a word in two halves
  int64_t words;
  const void* bias;  // T [columns], or null
};

template <int kColumns>
constexpr int kStageBytes = (kGroups + kColumns / kSide) * kTileBytes;
template <int kColumns>
constexpr int shared_bytes(int stages) {
  return stages * (kStageBytes<kColumns> + 2 * 8);
}

// A place in the ring and how often it has been round.
struct Turn {
  int place = 0;
  uint32_t phase = 0;
  __device__ void advance(int stages) {
    if (++place < stages) return;
    place = 0;
    phase ^= 1;
  }
};

template <int kColumns>
struct Ring {
  uint32_t stages, full, empty;
  __device__ Ring(uint32_t base, const Arguments& a)
      : stages(base), full(base + a.stages * kStageBytes<kColumns>), empty(full + a.stages * 8) {}
  __device__ uint32_t left(int place, int group) const {
    return stages + place * kStageBytes<kColumns> + group * kTileBytes;
  }
  __device__ uint32_t right(int place) const { return left(place, kGroups); }
  __device__ uint32_t is_full(int place) const { return full + place * 8; }
  __device__ uint32_t is_empty(int place) const { return empty + place * 8; }
};

// What of one block of results there is to do: which tiles of the sum each strip of the left operand wants.
struct Item {
  int down, panel;
  bool listed;  // strips are known; otherwise whether they exist is
  Strip strips[kGroups];

  __device__ Item(const Arguments& a, int number)
      : down(number / a.panels), panel(number % a.panels), listed(a.strips != nullptr) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      strips[g] = {0, 0};
      if (static_cast<int64_t>(strip(g)) * kSide < a.rows) strips[g] = listed ? a.strips[strip(g)] : Strip{~0ull, 0};
    }
  }
  __device__ int strip(int group) const { return down * kGroups + group; }
  __device__ Strip of(int group) const { return group ? strips[1] : strips[0]; }  // an index would need memory
  __device__ bool wants(int group, int t) const { return listed ? of(group).live >> t & 1 : of(group).live != 0; }
  // The tile after t that some strip wants; a.depth or more: none.
  __device__ int after(const Arguments& a, int t) const {
    if (!listed) return t + 1;
    const uint64_t live = strips[0].live | strips[1].live;
    const uint64_t rest = t + 1 < kMostListed ? live >> (t + 1) << (t + 1) : 0;
    return rest ? __ffsll(static_cast<long long>(rest)) - 1 : a.depth;
  }
  __device__ int first(const Arguments& a) const { return after(a, -1); }
};

// One block for a strip of the mask: what of each of its tiles is live.
__global__ void __launch_bounds__(256)
    strips_kernel(const uint2* bits, int64_t rows, int columns, int words, Strip* strips) {
  let_next_launch_begin();
  __shared__ unsigned long long live, partly;
  if (threadIdx.x == 0) live = partly = 0;
  __syncthreads();
  const int64_t top = static_cast<int64_t>(blockIdx.x) * kSide;
  const int here = static_cast<int>(rows - top < kSide ? rows - top : kSide);
  unsigned long long found = 0, missing = 0;
  for (int i = threadIdx.x; i < here * words; i += 256) {
    const int word = i % words, left = columns - word * kSide;
    const uint2 bit = bits[top * words + i];
    const uint64_t set = static_cast<uint64_t>(bit.y) << 32 | bit.x;
    const uint64_t whole = left >= kSide ? ~0ull : (1ull << left) - 1;
    found |= static_cast<unsigned long long>(set != 0) << word;
    missing |= static_cast<unsigned long long>(set != whole) << word;
  }
  atomicOr(&live, found);
  atomicOr(&partly, missing);
  __syncthreads();
  if (threadIdx.x == 0) strips[blockIdx.x] = {live, live & ~partly};
}

}  // namespace dmt::hopper
