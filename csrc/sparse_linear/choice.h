// When the dense product is the faster one. Measured on one core of a Zen 4, and of an Emerald Rapids for Intel, with
// `dmt bench kernels`.
#pragma once

#include <cstdint>

#include "../isa.h"
#include "steps.h"

namespace dmt::sparse_linear {

enum class Product { kForward, kGradInput, kGradWeight };
enum Route : int64_t { kAuto = 0, kDense = 1, kSparse = 2 };

constexpr int64_t kMostPart = kRows;  // columns of dW at a time, likewise

// Words whose sums stay in registers: few live elements a word leave time for misses in the first-level cache, which
// is half as large again on Intel's processors.
inline int64_t words_at_once(double live) {
  if (intel()) return live > 0.15 ? 1 : 2;
  return live > 0.2 ? 1 : live > 0.08 ? 2 : 4;
}

// Whether blocks are narrow where all there is to do with a piece of an operand is done at once. Sums, weights and x
// then share the first-level cache, at the price of more steps for each live element. Measured on Intel alone.
inline bool narrow_pays(double live) { return intel() && isa() >= Isa::avx512 && live < 0.15; }

// Whether a packed weight of so many bytes stays in a second-level cache beside the rest.
inline bool stays_near(int64_t weight_bytes) { return weight_bytes <= 1 << 20; }

// Rows of a tile where there are several, for which the weight is packed once for all: their sums fit the first level,
// as long as the weight stays in the second. For y on Intel alone; for dX everywhere, though measured on Intel alone.
inline int64_t tile_rows(int64_t weight_bytes) { return stays_near(weight_bytes) ? 64 : kRows; }

// Whether rows go by how many of their elements are live. What is live in a row must be little for the end of its loop
// to count; and where weights come from far away, that is what the loop waits for.
inline bool order_pays(double live, int64_t rows, int64_t weight_bytes) {
  return stays_near(weight_bytes) && live < (rows <= kRows ? 0.2 : 0.07);
}

struct ForwardTiling {
  Width width;
  int64_t words, rows;  // words whose sums stay in registers; rows of a tile
};

inline ForwardTiling forward_tiling(double live, int64_t rows, int64_t weight_bytes) {
  if (rows > kRows) return {Width::kWide, words_at_once(live), intel() ? tile_rows(weight_bytes) : kRows};
  const bool narrow = narrow_pays(live);
  return {narrow ? Width::kNarrow : Width::kWide, !narrow || rows > 128 ? words_at_once(live) : 1, kRows};
}

struct GradInputTiling {
  Width width;
  int64_t rows;  // of a tile
};

// Broad blocks read a row of the weight and of dY for fewer partial sums, of which there are many where many elements
// are live. whole: dY need not be copied for them.
inline GradInputTiling grad_input_tiling(double live, int64_t rows, int64_t weight_bytes, bool whole) {
  const bool broad = whole && intel() && isa() >= Isa::avx512 && live > (rows <= 128 ? 0.35 : 0.4);
  const bool narrow = rows <= 128 && narrow_pays(live);
  return {broad    ? Width::kBroad
          : narrow ? Width::kNarrow
                   : Width::kWide,
          rows <= kRows ? kRows : tile_rows(weight_bytes)};
}

struct GradWeightTiling {
  Width width;
  bool direct;   // x is read where it lies, down its columns
  int64_t part;  // columns at a time
};

// Few live elements do not pay for x to be transposed, and leave parts small enough for the first-level cache.
inline GradWeightTiling grad_weight_tiling(double live, int64_t rows, int64_t columns) {
  const bool few = rows <= 64;
  if (!intel()) return {Width::kWide, false, few ? 32 : kMostPart};
  if (few || live * static_cast<double>(columns) <= 64) {
    const bool narrow = narrow_pays(live);
    return {narrow ? Width::kNarrow : Width::kWide, true, narrow ? 64 : 32};
  }
  return {Width::kWide, false, rows <= kRows ? 64 : kMostPart};
}

// Whether a dense product is made on matrix tiles (../amx) and not by a library.
//
// Of bfloat16, a few rows of a large weight, which take as long as it is read, are a little faster in the library.
// Those of float32 take six products of tiles for one, and pay if there is something to multiply, but only who asks for
// dense ones gets them: where something else uses the tiles of the core they are slower than the library's, which do
// not feel it.
inline bool on_tiles(Product product, Dtype dtype, int64_t rows, int64_t columns, int64_t outputs, int64_t route) {
  if (isa() != Isa::amx) return false;
  if (dtype == Dtype::kFloat) return route == kDense && rows >= 32 && rows * columns * outputs >= int64_t{1} << 22;
  if (dtype != Dtype::kBfloat16) return false;
  return product == Product::kGradWeight || rows >= 8 || columns * outputs < int64_t{1} << 19;
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
// are matrix tiles (AMX), in ours and in the library's, which leave little to win by skipping.
constexpr BreakEven kIntel = {{0.78, 0.57, 0.70}, {1.60, 1.06, 1.50}, {0.63, 0.50, 0.68}};
constexpr double kBfloat16OnTiles[] = {0.015, 0.010, 0.015};

inline double break_even(Product product, Dtype dtype) {
  const BreakEven& table = intel() ? kIntel : kAmd;
  const int i = static_cast<int>(product);
  if (dtype == Dtype::kBfloat16) return isa() == Isa::amx ? kBfloat16OnTiles[i] : table.bfloat16[i];
  return dtype == Dtype::kHalf ? table.half[i] : table.wide[i];
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
