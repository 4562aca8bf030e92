// Enough of CUDA for one block at a time on the host: a thread for each of its threads, barriers for the rest.
// Found in place of csrc/cuda_common.h by the header under test.
#pragma once

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __restrict__
#define __launch_bounds__(...)

struct Dim {
  unsigned x = 0, y = 0, z = 0;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct double2 {
  double x, y;
};
inline thread_local Dim threadIdx, blockIdx;
inline Dim gridDim;

struct Block {
  struct Warp {
    std::barrier<> barrier{32};
    std::atomic<unsigned> ballot{0};
    double values[32] = {};
  };
  explicit Block(int threads) : barrier(threads), warps(threads / 32) {
    for (auto& w : warps) w = std::make_unique<Warp>();
  }
  std::barrier<> barrier;
  std::atomic<int> any{0};
  std::vector<std::unique_ptr<Warp>> warps;
};
inline std::unique_ptr<Block> block;
inline Block::Warp& warp() { return *block->warps[threadIdx.x / 32]; }

inline void __syncthreads() { block->barrier.arrive_and_wait(); }
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline int __syncthreads_or(int value) {
  if (threadIdx.x == 0) block->any = 0;
  __syncthreads();
  if (value) block->any = 1;
  __syncthreads();
  const int result = block->any;
  __syncthreads();
  return result;
}
inline unsigned __ballot_sync(unsigned, bool value) {
  const unsigned lane = threadIdx.x % 32;
  if (lane == 0) warp().ballot = 0;
  warp().barrier.arrive_and_wait();
  if (value) warp().ballot |= 1u << lane;
  warp().barrier.arrive_and_wait();
  const unsigned result = warp().ballot;
  warp().barrier.arrive_and_wait();
  return result;
}
// float and double; a lane beyond the warp gives back one's own value.
template <class T>
T __shfl_sync(unsigned, T value, unsigned from) {
  const unsigned lane = threadIdx.x % 32;
  warp().values[lane] = value;
  warp().barrier.arrive_and_wait();
  const T result = static_cast<T>(warp().values[from < 32 ? from : lane]);
  warp().barrier.arrive_and_wait();
  return result;
}
template <class T>
T __shfl_xor_sync(unsigned all, T value, int step) {
  return __shfl_sync(all, value, (threadIdx.x % 32) ^ static_cast<unsigned>(step));
}
template <class T>
T __shfl_down_sync(unsigned all, T value, int step) {
  return __shfl_sync(all, value, threadIdx.x % 32 + static_cast<unsigned>(step));
}
inline int __ffs(unsigned v) { return __builtin_ffs(static_cast<int>(v)); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
template <class T>
T atomicAdd(T* to, T value) {
  return std::atomic_ref<T>(*to).fetch_add(value);
}
inline void __stcs(int4* to, int4 value) { *to = value; }

// kernel() for every thread of every block of the grid.
template <class Kernel>
void launch(Dim grid, int threads, const Kernel& kernel) {
  block = std::make_unique<Block>(threads);
  gridDim = grid;
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([=] {
      threadIdx.x = static_cast<unsigned>(t);
      for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
          for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx = {x, y, z};
            kernel();
            block->barrier.arrive_and_wait();
          }
    });
  }
  for (auto& t : pool) t.join();
}

namespace dmt {
inline void grid_sync() { __syncthreads(); }  // of a grid of one block
struct BFloat16 {  // its upper half of a float32
  uint16_t bits;
};
inline float widen(float v) { return v; }
inline double widen(double v) { return v; }
inline float widen(BFloat16 v) {
  const uint32_t wide = static_cast<uint32_t>(v.bits) << 16;
  float result;
  std::memcpy(&result, &wide, 4);
  return result;
}
template <class T>
T narrow(double v) {
  return static_cast<T>(v);
}
template <>
inline BFloat16 narrow(double v) {  // cut off, which is exact for what tests use
  const auto single = static_cast<float>(v);
  uint32_t wide;
  std::memcpy(&wide, &single, 4);
  return {static_cast<uint16_t>(wide >> 16)};
}
}  // namespace dmt
