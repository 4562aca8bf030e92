// When the dense product is the faster one. Measured on one core of a Zen 4 with benchmarks/bench_sparse_linear.py.
#pragma once

#include <cstdint>

#include "steps.h"

namespace dmt::sparse_linear {

enum class Product { kForward, kGradInput, kGradWeight };
enum Route : int64_t { kAuto = 0, kDense = 1, kSparse = 2 };

constexpr int64_t kSmallProduct = 1 << 24;  // multiplications below which oneDNN does not beat MKL

// Words whose sums stay in registers: few live elements a word leave time for misses in the first-level cache.
inline int64_t words_at_once(double live) { return live > 0.2 ? 1 : live > 0.08 ? 2 : 4; }

// The share of live elements at which sparse and dense take the same time, for many rows.
inline double break_even(Product product, Dtype dtype) {
  const double shares[] = {0.62, 0.56, 0.70};
  const double share = shares[static_cast<int>(product)];
  // oneDNN multiplies bfloat16 and float16 at twice the rate of float32 or more; our sums are in float32.
  return dtype == Dtype::kBfloat16 || dtype == Dtype::kHalf ? share / 2 : share;
}

// What the sparse product spends on packing, in rows of the dense product.
constexpr double kPackingRows = 1.5;

// Below this many multiplications the calls around the dense product cost more than the product.
constexpr int64_t kTinyProduct = 1 << 18;

inline bool goes_dense(int64_t route, Product product, Dtype dtype, int64_t rows, int64_t columns, int64_t outputs,
                       double live) {
  if (route != kAuto) return route == kDense;
  if (rows * columns * outputs < kTinyProduct) return false;
  return static_cast<double>(rows) * (1 - live / break_even(product, dtype)) < kPackingRows;
}

}  // namespace dmt::sparse_linear
