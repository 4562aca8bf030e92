// y = (x masked) W^T and dX = (dY W) masked on Hopper, 16 bits. A block makes 128 rows of kColumns results at a time:
// one warp has the copy engine bring tiles of 64 x 64 of both operands into a ring in shared memory, two warpgroups
// multiply them, each 64 rows. For y, x is masked on its way through registers, or taken as it is where a tile is live
// altogether; tiles without anything live are neither read nor multiplied. For dX neither are those of W whose results
// are dead, and results are masked on their way out.
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
  int downs, panels;  // blocks of results, downwards and across
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

// What of one block of results there is to do. Tiles of the mask are those that the sum of y runs over, and those of
// the result for dX.
template <bool kInput, int kColumns>
struct Item {
  int down, panel;
  bool listed;
  Strip strips[kGroups];

  __device__ Item(const Arguments& a, int number)
      : down(number / a.panels), panel(number % a.panels), listed(a.strips != nullptr) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const bool exists = down < a.downs && static_cast<int64_t>(strip(g)) * kSide < a.rows;
      if (!exists) {
        strips[g] = {0, 0};
      } else if (listed) {
        strips[g] = a.strips[strip(g)];
      } else {
        strips[g] = {~0ull, 0};
      }
    }
  }
  __device__ int strip(int group) const { return down * kGroups + group; }
  __device__ Strip of(int group) const { return group ? strips[1] : strips[0]; }  // an index would need memory

  // For dX: which tiles of the result are live; up to two of a row are told apart.
  __device__ uint32_t results(uint64_t live) const {
    constexpr int kAcross = kColumns / kSide;
    return static_cast<uint32_t>(listed ? live >> panel * kAcross : live) & ((1u << kAcross) - 1);
  }
  __device__ bool wants(int group, int t) const {
    if (kInput) return results(of(group).live) != 0;
    return listed ? of(group).live >> t & 1 : of(group).live != 0;
  }
  // The tile of the sum after t, at which something is to be multiplied; a.depth or more: none.
  __device__ int after(const Arguments& a, int t) const {
    const uint64_t live = strips[0].live | strips[1].live;
    if (kInput) return results(live) ? t + 1 : a.depth;
    if (!listed) return t + 1;
    const uint64_t rest = t + 1 < kMostListed ? live >> (t + 1) << (t + 1) : 0;
    return rest ? __ffsll(static_cast<long long>(rest)) - 1 : a.depth;
  }
  __device__ int first(const Arguments& a) const { return after(a, -1); }
};

// Two neighbouring bits of `half`, at 8 * kByte, as a mask for two 16-bit values.
template <int kByte>
__device__ inline uint32_t widened(uint32_t half) {
  return spread_signs<0xcc88 + 0x1111 * kByte>(half << 7, half << 6);
}

__device__ inline uint2 mask_word(const Arguments& a, int64_t row, int64_t word) {
  return row < a.rows && word < a.words ? a.bits[row * a.words + word] : uint2{0, 0};
}

// The words of a thread's two rows, its own columns at the lower end of each eight bits.
struct MaskWords {
  uint2 upper, lower;
  __device__ MaskWords(const Arguments& a, int64_t row, int64_t word)
      : upper(mask_word(a, row, word)), lower(mask_word(a, row + 8, word)) {}
  __device__ void align(int lane) {
    const int by = 2 * (lane % 4);
    upper.x >>= by, upper.y >>= by, lower.x >>= by, lower.y >>= by;
  }
};

template <class T>
__device__ inline uint32_t packed(float a, float b) {
  if constexpr (kIsBrain<T>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __half2 pair = __floats2half2_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
}

template <class T>
__device__ inline float2 unpacked(uint32_t pair) {
  if constexpr (kIsBrain<T>) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pair));
  } else {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  }
}

// Four neighbouring threads have a pair of each of four pieces; afterwards each has all pairs of one piece.
__device__ inline uint4 gathered(const uint32_t (&v)[4], int lane) {
  const bool odd = lane & 1, upper = lane & 2;
  const uint32_t a = __shfl_xor_sync(~0u, odd ? v[0] : v[1], 1), b = __shfl_xor_sync(~0u, odd ? v[2] : v[3], 1);
  const uint32_t x0 = odd ? a : v[0], x1 = odd ? v[1] : a, y0 = odd ? b : v[2], y1 = odd ? v[3] : b;
  const uint32_t c = __shfl_xor_sync(~0u, upper ? x0 : y0, 2), d = __shfl_xor_sync(~0u, upper ? x1 : y1, 2);
  return upper ? uint4{c, d, y0, y1} : uint4{x0, x1, c, d};
}

// A warpgroup's work.
template <class T, bool kInput, int kColumns>
struct Consumer {
  using Work = Item<kInput, kColumns>;
  using Result = Products<kColumns>;
  static constexpr int kAcross = kColumns / kSide;  // tiles

  const Arguments& a;
  const Ring<kColumns>& ring;
  const int group, warp, lane;
  T* const out;
  Turn turn;

  __device__ void wait_full() const { wait(ring.is_full(turn.place), turn.phase); }
  __device__ void release(int place) const {
    __syncwarp();
    if (lane == 0) arrive(ring.is_empty(place));
  }
  // Places of tiles that only the other group wants. These come before they are let go, or this group could be a round
  // ahead of the others.
  __device__ int pass_over(const Work& item, int t) {
    for (; t < a.depth && !item.wants(group, t); t = item.after(a, t)) {
      wait_full();
      release(turn.place);
      turn.advance(a.stages);
    }
    return t;
  }

  static constexpr uint32_t kAll = (1u << kAcross) - 1;

  // Tiles straight from shared memory. kWide: all results, or a tile of them, number `only`; known when this is
  // compiled, for the assembler gives up on products behind a branch.
  template <int kWide>
  __device__ void sum_plain(const Work& item, int only, float* sums) {
    using Some = Products<kWide>;
    float d[kWide / 2] = {};
    int before = -1;  // whose products may be under way
    for (int t = item.first(a); t < a.depth; t = item.after(a, t)) {
      wait_full();
      const bool mine = item.wants(group, t);
      if (mine) {
        const uint64_t left = descriptor(ring.left(turn.place, group));
        const uint64_t right = descriptor(ring.right(turn.place) + only * kTileBytes, kInput ? kTileBytes : 0);
        begin_products();
#pragma unroll
        for (int k = 0; k < 4; ++k)
          Some::template add<T, kInput>(d, left + k * kStepAlongRow, right + k * (kInput ? kStepDown : kStepAlongRow));
        commit_products();
        Some::template wait<1>(d);
      } else {
        Some::template wait<0>(d);
      }
      if (before >= 0) release(before);
      before = mine ? turn.place : -1;
      if (!mine) release(turn.place);
      turn.advance(a.stages);
    }
    Some::template wait<0>(d);
    if (before >= 0) release(before);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i)
      sums[i] = kWide == kColumns || i / (kWide / 2) == only ? d[i % (kWide / 2)] : 0;
  }

  template <int kStep>
  __device__ void load_step(uint32_t tile, const MaskWords& w, uint32_t (&left)[4]) const {
    const int row = warp * 16 + lane % 16, piece = 2 * kStep + lane / 16;
    load_matrices(tile + row * 128 + ((piece ^ row % 8) << 4), left);
    const uint32_t upper = kStep < 2 ? w.upper.x : w.upper.y, lower = kStep < 2 ? w.lower.x : w.lower.y;
    constexpr int kByte = 2 * kStep % 4;
    left[0] &= widened<kByte>(upper);
    left[1] &= widened<kByte>(lower);
    left[2] &= widened<kByte + 1>(upper);
    left[3] &= widened<kByte + 1>(lower);
  }

  // The left tile at this place, masked, as operand of four products.
  __device__ void load_masked(MaskWords words, uint32_t (&left)[4][4]) const {
    wait_full();
    const uint32_t tile = ring.left(turn.place, group);
    words.align(lane);
    load_step<0>(tile, words, left[0]);
    load_step<1>(tile, words, left[1]);
    load_step<2>(tile, words, left[2]);
    load_step<3>(tile, words, left[3]);
  }

  // Tiles of which some elements are dead: masked in registers, the next one while this one is multiplied.
  __device__ void sum_masked(const Work& item, int64_t row, float* d) {
    uint32_t left[4][4], next[4][4];
    int t = pass_over(item, item.first(a));
    if (t >= a.depth) return;
    load_masked(MaskWords(a, row, t), left);
    while (true) {
      int following = item.after(a, t);
      const bool at_once = following < a.depth && item.wants(group, following);
      const MaskWords words(a, at_once ? row : a.rows, following);
      const uint64_t right = descriptor(ring.right(turn.place));
      begin_products();
#pragma unroll
      for (int k = 0; k < 4; ++k) Result::template add<T>(d, left[k], right + k * kStepAlongRow);
      commit_products();
      const int here = turn.place;
      turn.advance(a.stages);
      if (at_once) load_masked(words, next);
      Result::template wait<0>(d);
      hold_until_here(left, d[0]);
      release(here);
      if (!at_once) {
        following = pass_over(item, following);
        if (following >= a.depth) return;
        load_masked(MaskWords(a, row, following), next);
      }
#pragma unroll
      for (int i = 0; i < 16; ++i) left[i / 4][i % 4] = next[i / 4][i % 4];
      t = following;
    }
  }

  // Results of 32 columns from number 32 * kPart on.
  template <int kPart>
  __device__ void store_part(const float* d, int64_t row, int column, uint32_t upper_mask, uint32_t lower_mask) const {
    uint32_t upper[4], lower[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* v = d + 16 * kPart + 4 * i;
      float2 add{0, 0};
      const int at = column + 8 * i + 2 * (lane % 4);
      if (!kInput && a.bias && at < a.columns) add = unpacked<T>(static_cast<const uint32_t*>(a.bias)[at / 2]);
      upper[i] = packed<T>(v[0] + add.x, v[1] + add.y);
      lower[i] = packed<T>(v[2] + add.x, v[3] + add.y);
    }
    if constexpr (kInput) {
      mask4(upper, upper_mask);
      mask4(lower, lower_mask);
    }
    const uint4 above = gathered(upper, lane), below = gathered(lower, lane);
    const int at = column + 8 * (lane % 4);
    if (at >= a.columns) return;
    if (row < a.rows) *reinterpret_cast<uint4*>(out + row * a.columns + at) = above;
    if (row + 8 < a.rows) *reinterpret_cast<uint4*>(out + (row + 8) * a.columns + at) = below;
  }
  __device__ static void mask4(uint32_t (&v)[4], uint32_t half) {
    v[0] &= widened<0>(half);
    v[1] &= widened<1>(half);
    v[2] &= widened<2>(half);
    v[3] &= widened<3>(half);
  }

  template <int kTile>
  __device__ void store_tile(const float* d, int64_t row, int panel) const {
    if constexpr (kTile < kAcross) {
      const int column = panel * kColumns + kTile * kSide;
      MaskWords words(a, kInput ? row : a.rows, static_cast<int64_t>(panel) * kAcross + kTile);
      words.align(lane);
      store_part<2 * kTile>(d, row, column, words.upper.x, words.lower.x);
      store_part<2 * kTile + 1>(d, row, column + 32, words.upper.y, words.lower.y);
      store_tile<kTile + 1>(d, row, panel);
    }
  }

  __device__ void run() {
    Work next(a, static_cast<int>(blockIdx.x));
    for (int number = blockIdx.x; number < a.downs * a.panels; number += gridDim.x) {
      const Work item = next;
      next = Work(a, number + static_cast<int>(gridDim.x));
      const Strip mine = item.of(group);
      const int64_t row = static_cast<int64_t>(item.strip(group)) * kSide + warp * 16 + lane / 4;
      float d[kColumns / 2] = {};
      const uint32_t results = item.results(mine.live);
      if (kInput && results != kAll) {
        if (kAcross == 2 && results != 0) {
          sum_plain<kSide>(item, results == 2, d);
        } else {
          pass_over(item, item.first(a));
        }
      } else if (kInput || (item.listed && (mine.live & ~mine.whole) == 0)) {
        sum_plain<kColumns>(item, 0, d);
      } else {
        sum_masked(item, row, d);
      }
      store_tile<0>(d, row, item.panel);
    }
  }
};

// Has every tile brought that is wanted; one thread.
template <bool kInput, int kColumns>
__device__ void produce(const CUtensorMap* left, const CUtensorMap* right, const Arguments& a,
                        const Ring<kColumns>& ring) {
  constexpr int kAcross = kColumns / kSide;
  Turn turn;
  Item<kInput, kColumns> next(a, static_cast<int>(blockIdx.x));
  for (int number = blockIdx.x; number < a.downs * a.panels; number += gridDim.x) {
    const Item<kInput, kColumns> item = next;
    next = Item<kInput, kColumns>(a, number + static_cast<int>(gridDim.x));
    const uint32_t results = item.results(item.strips[0].live | item.strips[1].live);
    for (int t = item.first(a); t < a.depth; t = item.after(a, t)) {
      const bool wanted[kGroups] = {item.wants(0, t), item.wants(1, t)};
      const int tiles = wanted[0] + wanted[1] + (kInput ? __popc(results) : kAcross);
      const uint32_t full = ring.is_full(turn.place);
      wait(ring.is_empty(turn.place), turn.phase ^ 1);
      expect(full, tiles * kTileBytes);
      for (int g = 0; g < kGroups; ++g)
        if (wanted[g]) load_tile(ring.left(turn.place, g), left, full, t * kSide, item.strip(g) * kSide);
      if constexpr (kInput) {
        for (int j = 0; j < kAcross; ++j)
          if (results >> j & 1)
            load_tile(ring.right(turn.place) + j * kTileBytes, right, full, item.panel * kColumns + j * kSide,
                      t * kSide);
      } else {
        load_tile(ring.right(turn.place), right, full, t * kSide, item.panel * kColumns);
      }
      turn.advance(a.stages);
    }
  }
}

template <class T, bool kInput, int kColumns>
__global__ void __launch_bounds__(kThreads, 1)
    product_kernel(const __grid_constant__ CUtensorMap left, const __grid_constant__ CUtensorMap right, T* out,
                   const __grid_constant__ Arguments a) {
  extern __shared__ __align__(1024) uint8_t memory[];
  const Ring<kColumns> ring(shared_address(memory), a);
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
