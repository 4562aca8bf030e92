// The end of eq. 10, from the sums. Part of loops.h.
#pragma once

#include "strip.h"

namespace dmt {
namespace DMT_ISA {
namespace {

// The logarithm of a product: a mantissa and a power of two, so that a column costs no logarithm of its own. What is
// not positive and finite has no such form and is added as it is.
class LogProduct {
 public:
  void multiply(double factor) {
    uint64_t bits;
    std::memcpy(&bits, &factor, 8);
    const int64_t exponent = static_cast<int64_t>(bits >> 52);  // the sign bit would show as 2048 and more
    if (exponent < 1 || exponent > 2046) {
      rest_ += __builtin_log(factor);
      return;
    }
    power_ += exponent - 1023;
    bits = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
    double mantissa;
    std::memcpy(&mantissa, &bits, 8);
    product_ *= mantissa;
    if (product_ > 0x1p500) fold();
  }
  double log() {
    fold();
    return rest_ + static_cast<double>(power_) * 0.69314718055994530942;
  }

 private:
  void fold() {
    rest_ += __builtin_log(product_);
    product_ = 1;
  }
  double product_ = 1, rest_ = 0;
  int64_t power_ = 0;
};

// arithmetic.h's `moments` and `divergence` for all columns, in pieces that vectorise.
template <typename T>
double finish_divergence(const DivergenceJob& job) {
  using A = typename ArithmeticOf<T>::V::Scalar;
  const A* shifts = static_cast<const A*>(job.shifts);
  A* out = static_cast<A*>(job.statistics);
  const int64_t padded = job.words * kColumns;
  const double each = job.rows > 0 ? 1 / static_cast<double>(job.rows) : 1;
  LogProduct ratios;
  double rest = 0;
  for (int64_t column = 0; column < job.width; column += kColumns) {
    const double* sums = job.sums + column;
    const int64_t width = job.width - column < kColumns ? job.width - column : kColumns;
    double m[4][kColumns], ratio[kColumns], term[kColumns];
    for (int c = 0; c < kColumns; ++c) {
      const double live = sums[4 * padded + c] > 0 ? sums[4 * padded + c] : 1, share = sums[4 * padded + c] * each;
      const double one_live = 1 / live, shift = static_cast<double>(shifts[column + c]);
      const double offset = sums[c] * each, live_offset = sums[2 * padded + c] * one_live;
      const double variance = sums[padded + c] * each - offset * offset;
      const double live_variance = sums[3 * padded + c] * one_live - live_offset * live_offset;
      const double live_mean = shift + live_offset;
      m[0][c] = shift + offset;
      m[1][c] = variance < 0 ? 0 : variance;
      m[2][c] = share * live_mean;
      m[3][c] = share * (live_variance < 0 ? 0 : live_variance) + share * (1 - share) * live_mean * live_mean;
      const double q = m[1][c] + job.epsilon, p = m[3][c] + job.epsilon, apart = m[2][c] - m[0][c];
      ratio[c] = q / p;
      term[c] = (p + apart * apart) / q - 1;
    }
    for (int64_t c = 0; c < width; ++c) {
      ratios.multiply(ratio[c]);
      rest += term[c];
    }
    for (int s = 0; s < 4; ++s) {
      for (int64_t c = 0; c < width; ++c) out[s * job.width + column + c] = static_cast<A>(m[s][c]);
    }
  }
  return job.width > 0 ? 0.5 * (ratios.log() + rest) / static_cast<double>(job.width) : 0;
}

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
