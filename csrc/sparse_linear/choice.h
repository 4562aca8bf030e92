// When the dense product is the faster one, on one core and on several: measured, see
// benchmarks/bench_sparse_linear.py.
#pragma once

#include <cstdint>

namespace dmt::sparse_linear {

enum class Product { kForward, kGradInput, kGradWeight };
enum Route : int64_t { kAuto = 0, kDense = 1, kSparse = 2 };

constexpr int64_t kSmallProduct = 1 << 24;  // multiplications below which oneDNN does not beat MKL

// Words whose sums stay in registers: few live elements a word leave time for misses in the first-level cache.
inline int64_t words_at_once(double live) { return live > 0.2 ? 1 : live > 0.08 ? 2 : 4; }

inline bool goes_dense(int64_t route, int64_t /*structure*/, Product, torch::headeronly::ScalarType, int64_t rows,
                       int64_t, int64_t, double live) {
  if (route != kAuto) return route == kDense;
  return rows < 16 || live > 0.6;
}

}  // namespace dmt::sparse_linear
