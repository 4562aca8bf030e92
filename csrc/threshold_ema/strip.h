// Sizes and strips of columns. Part of loops.h.
#pragma once

#include "../simd.h"
#include "jobs.h"

namespace dmt {
namespace DMT_ISA {
namespace {

constexpr int kColumns = 64;  // of one word
constexpr int kVectors = kColumns / kLanes;
constexpr int kCoefficients = 5;
constexpr int kSums = 5;
constexpr int64_t kSummedRows = 64;  // summed in the arithmetic of x before they are added to double

enum class Store { none, cached, past };  // what becomes of values; `past`: the caches

// Rows at a time where columns are summed: their sums are then fetched the less often. More rows than four take more
// registers than AVX2 has, and more streams to memory than it can combine.
template <Store kStore>
constexpr int tall() {
#if defined(__AVX512F__)
  return kStore == Store::past ? 4 : 8;
#else
  return 4;
#endif
}

// A strip of up to 64 columns: the last of a row may be narrower and goes through a buffer.
template <typename T>
struct Strip {
  int64_t width;  // columns of this strip
  explicit Strip(int64_t left) : width(left < kColumns ? left : kColumns) {}
  bool whole() const { return width == kColumns; }
  const T* padded(const T* from, T* buffer) const {
    std::memset(static_cast<void*>(buffer), 0, sizeof(T) * kColumns);
    std::memcpy(static_cast<void*>(buffer), from, sizeof(T) * static_cast<size_t>(width));
    return buffer;
  }
};

// Of a word's |x|, as far as `V::Sum::add` goes on: the rule of reference.abs_sums.
template <typename V>
inline V fold(const V* sizes) {
  return (sizes[0] + sizes[2]) + (sizes[1] + sizes[3]);
}

// A store waits for its line: this asks for the one that its row reaches some vectors later.
constexpr int64_t kAhead = 512;  // bytes

template <Store kStore, typename V, typename T>
inline void put_out(const V& v, T* to) {
  if (kStore == Store::past) {
    v.stream(to);
  } else if (kStore == Store::cached) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(to) + kAhead), 1);  // no object's end
    v.store(to);
  }
}

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
