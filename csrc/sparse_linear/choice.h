// When the dense product is the faster one. Measured on one core of a Zen 4, and of an Emerald Rapids for Intel, with
// `dmt bench kernels`.
#pragma once

#include <cstdint>

#include "../isa.h"
#include "steps.h"

namespace dmt::sparse_linear {

enum class Product { kForward, kGradInput, kGradWeight };
enum Route : int64_t { kAuto = 0, kDense = 1, kSparse = 2 };

// Words whose sums stay in registers: few live elements a word leave time for misses in the first-level cache, which
// is half as large again on Intel's processors.
inline int64_t words_at_once(double live) {
  if (intel()) return live > 0.08 ? 1 : 2;
  return live > 0.2 ? 1 : live > 0.08 ? 2 : 4;
}

// The share of live elements, for y, dX and dW, at which sparse and dense take the same time for many rows. Above 1:
// sparse, whatever is live.
struct BreakEven {
  double wide[3], bfloat16[3], half[3];
};
// On AMD, bfloat16 has dense products at twice the rate of float32, and float16 has none for the gradients that deserve
// the name.
constexpr BreakEven kAmd = {{0.62, 0.56, 0.70}, {0.25, 0.25, 0.28}, {0.50, 1.01, 1.01}};
// On Intel, two 512-bit units a core make the dense product of float32 faster; that of bfloat16 is slow but where there
// are matrix tiles (AMX: reckoned from peak rates, not measured).
constexpr BreakEven kIntel = {{0.74, 0.51, 0.67}, {1.30, 0.92, 1.40}, {0.56, 0.45, 0.60}};
constexpr BreakEven kIntelTiles = {{0.74, 0.51, 0.67}, {0.08, 0.08, 0.08}, {0.56, 0.45, 0.60}};

inline double break_even(Product product, Dtype dtype) {
  const BreakEven& table = !intel() ? kAmd : matrix_tiles() ? kIntelTiles : kIntel;
  const int i = static_cast<int>(product);
  return dtype == Dtype::kBfloat16 ? table.bfloat16[i] : dtype == Dtype::kHalf ? table.half[i] : table.wide[i];
}

// What the sparse product spends on packing, and dW on its way out as well, in rows of the dense product.
inline double packing_rows(Product product) { return product == Product::kGradWeight ? 10 : 1.5; }

// What a dense product costs beside its multiplications, in multiplications: the masked copy of x, the bias, the call.
inline int64_t dense_call(Product product) {
  return product == Product::kForward ? int64_t{1} << 18 : product == Product::kGradInput ? int64_t{1} << 16 : 0;
}

inline bool goes_dense(int64_t route, Product product, Dtype dtype, int64_t rows, int64_t columns, int64_t outputs,
                       double live) {
  if (route != kAuto) return route == kDense;
  if (rows * columns * outputs == 0) return false;
  const double weight = static_cast<double>(columns) * static_cast<double>(outputs);
  const double saved = static_cast<double>(rows) * (1 - live / break_even(product, dtype)) - packing_rows(product);
  return saved * weight + static_cast<double>(dense_call(product)) < 0;
}

}  // namespace dmt::sparse_linear
