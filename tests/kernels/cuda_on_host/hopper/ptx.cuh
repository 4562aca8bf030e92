// csrc/hopper/ptx.cuh for the host: the same names and meanings. Tiles come late and in any order, and products are
// computed when they are waited for, so that whoever reads or reuses something too early gets wrong numbers.
#pragma once

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <type_traits>

#include "../cuda_common.h"

#define __grid_constant__

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct float2 {
  float x, y;
};
struct __nv_bfloat16 {
  uint16_t bits;
};
struct CUtensorMap {
  const __nv_bfloat16* data;
  int rows, columns, stride, box_rows;
};
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline void __syncwarp() { warp().barrier.arrive_and_wait(); }
template <class T>
T atomicOr(T* to, T value) {
  return std::atomic_ref<T>(*to).fetch_or(value);
}

namespace dmt::hopper {

// ---- shared memory; an address is a place in it ----

constexpr int kMemory = 227 * 1024;
alignas(1024) inline uint8_t shared_memory[kMemory];
inline uint8_t* launched_memory() { return shared_memory; }
inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const uint8_t*>(p) - shared_memory);
}

// ---- barriers ----

struct Barrier {
  int count = 0, pending = 0, bytes = 0;
  uint32_t phase = 0;
};
inline Barrier barriers[kMemory / 8];
inline std::mutex mutex;
inline std::condition_variable changed;

[[noreturn]] inline void fail(const char* what) {
  std::printf("%s\n", what);
  std::exit(1);
}

inline void settle(Barrier& b) {
  if (b.pending != 0 || b.bytes != 0) return;
  b.phase ^= 1;
  b.pending = b.count;
  changed.notify_all();
}
inline void init(uint32_t barrier, uint32_t arrivals) {
  const std::lock_guard lock(mutex);
  barriers[barrier / 8] = {static_cast<int>(arrivals), static_cast<int>(arrivals), 0, 0};
}
inline void publish_barriers() {}
inline void arrive_and_expect(uint32_t barrier, int bytes) {
  const std::lock_guard lock(mutex);
  Barrier& b = barriers[barrier / 8];
  if (b.pending == 0) fail("a barrier has more arrivals than it was made for");
  b.bytes += bytes;
  --b.pending;
  settle(b);
}
inline void expect(uint32_t barrier, uint32_t bytes) { arrive_and_expect(barrier, static_cast<int>(bytes)); }
inline void arrive(uint32_t barrier) { arrive_and_expect(barrier, 0); }
inline void wait(uint32_t barrier, uint32_t phase) {
  std::unique_lock lock(mutex);
  const auto done = [&] { return barriers[barrier / 8].phase != phase; };
  if (!changed.wait_for(lock, std::chrono::seconds(60), done)) fail("waited for a minute at a barrier");
}

// ---- the copy engine ----

inline uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

struct Load {
  uint32_t to, barrier;
  CUtensorMap map;
  int column, row;
};

inline void carry_out(const Load& load) {
  const CUtensorMap& m = load.map;
  for (int r = 0; r < m.box_rows; ++r)
    for (int c = 0; c < 64; ++c) {
      const int row = load.row + r, column = load.column + c;
      const bool there = row < m.rows && column < m.columns;
      const uint16_t value = there ? m.data[static_cast<int64_t>(row) * m.stride + column].bits : 0;
      std::memcpy(shared_memory + swizzled(load.to + r * 128 + c * 2), &value, 2);
    }
  const std::lock_guard lock(mutex);
  Barrier& b = barriers[load.barrier / 8];
  b.bytes -= m.box_rows * 128;
  settle(b);
}

// A thread of its own, which takes the newest of two where there are two.
class CopyEngine {
 public:
  CopyEngine() : thread_([this] { work(); }) {}
  ~CopyEngine() {
    {
      const std::lock_guard lock(own_);
      over_ = true;
    }
    asked_.notify_all();
    thread_.join();
  }
  void ask(const Load& load) {
    const std::lock_guard lock(own_);
    queue_.push_back(load);
    asked_.notify_all();
  }

 private:
  void work() {
    std::unique_lock lock(own_);
    while (true) {
      asked_.wait(lock, [this] { return over_ || !queue_.empty(); });
      if (queue_.empty()) return;
      lock.unlock();
      std::this_thread::yield();  // more may be asked for
      lock.lock();
      const auto which = queue_.begin() + (queue_.size() > 1);
      const Load load = *which;
      queue_.erase(which);
      lock.unlock();
      carry_out(load);
      lock.lock();
    }
  }
  std::mutex own_;
  std::condition_variable asked_;
  std::vector<Load> queue_;
  bool over_ = false;
  std::thread thread_;
};
inline CopyEngine copy_engine;

inline void load_tile(uint32_t to, const CUtensorMap* map, uint32_t barrier, int column, int row) {
  copy_engine.ask({to, barrier, *map, column, row});
}

// ---- what has no meaning here ----

template <int kCount>
void take_registers() {}
template <int kCount>
void leave_registers() {}
inline void wait_for_launch_ahead() {}
inline void let_next_launch_begin() {}
inline void begin_products() {}
inline void hold_until_here(const uint32_t (&)[4][4], float) {}

// ---- numbers ----

template <class T>
constexpr bool kIsBrain = true;
inline float wide(uint16_t bits) { return widen(BFloat16{bits}); }
inline uint16_t rounded(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <class T>
uint32_t packed(float a, float b) {
  return rounded(a) | static_cast<uint32_t>(rounded(b)) << 16;
}
template <class T>
float2 unpacked(uint32_t pair) {
  return {wide(static_cast<uint16_t>(pair)), wide(static_cast<uint16_t>(pair >> 16))};
}
template <uint32_t kWhich>
uint32_t spread_signs(uint32_t a, uint32_t b) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t spread = 0;
  for (int i = 0; i < 4; ++i)
    if (bytes >> ((kWhich >> 4 * i & 7) * 8 + 7) & 1) spread |= 0xffu << 8 * i;
  return spread;
}

// ---- a warp's registers ----

struct Exchange {
  uint32_t addresses[32], values[32][4];
};
inline Exchange exchanges[64];

inline void load_matrices(uint32_t from, uint32_t (&m)[4]) {
  Exchange& e = exchanges[threadIdx.x / 32];
  const unsigned lane = threadIdx.x % 32;
  e.addresses[lane] = from;
  __syncwarp();
  for (unsigned i = 0; i < 4; ++i)
    std::memcpy(&m[i], shared_memory + e.addresses[i * 8 + lane / 4] + lane % 4 * 4, 4);
  __syncwarp();
}

// ---- products ----

inline uint16_t element(uint32_t address) {
  uint16_t bits;
  std::memcpy(&bits, shared_memory + swizzled(address), 2);
  return bits;
}
inline uint32_t start_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor & 0x3fff) << 4; }

// Of an operand whose sum runs along rows (n, k), or down them.
inline float along(uint64_t d, int n, int k) {
  const uint32_t group = static_cast<uint32_t>(d >> 32 & 0x3fff) << 4;
  return wide(element(start_of(d) + n / 8 * group + n % 8 * 128 + k * 2));
}
inline float down(uint64_t d, int n, int k) {
  const uint32_t group = static_cast<uint32_t>(d >> 32 & 0x3fff) << 4;
  const uint32_t next = static_cast<uint32_t>(d >> 16 & 0x3fff) << 4;
  return wide(element(start_of(d) + n / 64 * next + k / 8 * group + k % 8 * 128 + n % 64 * 2));
}

struct Product {
  float* d;
  uint64_t left, right;
  const uint32_t* registers;  // of the left operand, or null
  bool right_down, last;      // of a group
};
inline thread_local std::vector<Product> under_way;

inline void commit_products() { under_way.back().last = true; }

template <int N>
void carry_out(const Product& p) {
  const int lane = static_cast<int>(threadIdx.x % 32), first = static_cast<int>(threadIdx.x / 32 % 4 * 16) + lane / 4;
  float left[2][16];
  if (p.registers) {
    Exchange& e = exchanges[threadIdx.x / 32];
    std::memcpy(e.values[lane], p.registers, 16);
    __syncwarp();
    for (int k = 0; k < 16; ++k)
      for (int h = 0; h < 2; ++h) {
        const uint32_t pair = e.values[lane / 4 * 4 + k % 8 / 2][k / 8 * 2 + h];
        left[h][k] = wide(static_cast<uint16_t>(k % 2 ? pair >> 16 : pair));
      }
    __syncwarp();
  } else {
    for (int k = 0; k < 16; ++k)
      for (int h = 0; h < 2; ++h) left[h][k] = along(p.left, first + 8 * h, k);
  }
  for (int i = 0; i < N / 2; ++i) {
    const int n = i / 4 * 8 + lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k)
      p.d[i] += left[i / 2 % 2][k] * (p.right_down ? down(p.right, n, k) : along(p.right, n, k));
  }
}

template <int N>
struct Products {
  template <class T, bool kDown>
  static void add(float* d, uint64_t left, uint64_t right) {
    under_way.push_back({d, left, right, nullptr, kDown, false});
  }
  template <class T>
  static void add(float* d, const uint32_t (&left)[4], uint64_t right) {
    under_way.push_back({d, 0, right, left, false, false});
  }
  template <int kPending>
  static void wait(float*) {
    int groups = 0;
    for (const Product& p : under_way) groups += p.last;
    for (; groups > kPending; --groups) {
      bool last = false;
      while (!last) {
        const Product p = under_way.front();
        under_way.erase(under_way.begin());
        carry_out<N>(p);
        last = p.last;
      }
    }
  }
};

}  // namespace dmt::hopper
