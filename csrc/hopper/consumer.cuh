// The multiplying half of product_kernel.cuh: sums of a warpgroup, masks in registers, and results on their way out.
#pragma once

#include "descriptor.cuh"
#include "work.cuh"

namespace dmt::hopper {

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
  __device__ int pass_over(const Item& item, int t) {
    for (; t < a.depth && !item.wants(group, t); t = item.after(a, t)) {
      wait_full();
      release(turn.place);
      turn.advance(a.stages);
    }
    return t;
  }

  // Tiles straight from shared memory.
  __device__ void sum_plain(const Item& item, float* d) {
    int before = -1;  // whose products may be under way
    for (int t = item.first(a); t < a.depth; t = item.after(a, t)) {
      wait_full();
      const bool mine = item.wants(group, t);
      if (mine) {
        const uint64_t left = descriptor(ring.left(turn.place, group));
        const uint64_t right = descriptor(ring.right(turn.place), kInput ? kTileBytes : 0);
        begin_products();
#pragma unroll
        for (int k = 0; k < 4; ++k)
          Result::template add<T, kInput>(d, left + k * kStepAlongRow,
                                          right + k * (kInput ? kStepDown : kStepAlongRow));
        commit_products();
        Result::template wait<1>(d);
      } else {
        Result::template wait<0>(d);
      }
      if (before >= 0) release(before);
      before = mine ? turn.place : -1;
      if (!mine) release(turn.place);
      turn.advance(a.stages);
    }
    Result::template wait<0>(d);
    if (before >= 0) release(before);
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
  __device__ void sum_masked(const Item& item, int64_t row, float* d) {
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
    Item next(a, static_cast<int>(blockIdx.x));
    for (int number = blockIdx.x; number < a.items; number += gridDim.x) {
      const Item item = next;
      next = Item(a, number + static_cast<int>(gridDim.x));
      const Strip mine = item.of(group);
      const int64_t row = static_cast<int64_t>(item.strip(group)) * kSide + warp * 16 + lane / 4;
      float d[kColumns / 2] = {};
      if (kInput || (item.listed && (mine.live & ~mine.whole) == 0)) {
        sum_plain(item, d);
      } else {
        sum_masked(item, row, d);
      }
      store_tile<0>(d, row, item.panel);
    }
  }
};

}  // namespace dmt::hopper
