// Sums of |x|. Part of loops.h.
#pragma once

#include "strip.h"

namespace dmt {
namespace DMT_ISA {
namespace {

template <typename V, typename T>
inline V folded(const T* x) {
  V sizes[kVectors];
  for (int j = 0; j < kVectors; ++j) sizes[j] = V::load(x + j * kLanes).abs();
  return fold(sizes);
}

template <typename T>
double sum_all(const SumJob& job, int64_t begin, int64_t end) {
  using V = typename ArithmeticOf<T>::V;
  typename V::Sum even, odd;  // two, so that additions do not wait for one another
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(job.x) + row * job.row_stride;
    int64_t column = 0;
    for (; column + 2 * kColumns <= job.width; column += 2 * kColumns) {
      even.add(folded<V>(x + column));
      odd.add(folded<V>(x + column + kColumns));
    }
    for (; column < job.width; column += kColumns) {
      const Strip<T> strip(job.width - column);
      T in[kColumns];
      (column / kColumns % 2 ? odd : even).add(folded<V>(strip.whole() ? x + column : strip.padded(x + column, in)));
    }
  }
  return even.total() + odd.total();
}

// The rare case that something is not finite: it counts as 0, and is not counted.
template <typename T>
void sum_finite(const SumJob& job, int64_t begin, int64_t end, double* sum_and_count) {
  using V = typename ArithmeticOf<T>::V;
  typename V::Sum sum;
  int64_t finite = 0;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(job.x) + row * job.row_stride;
    for (int64_t column = 0; column < job.width; column += kColumns) {
      const int64_t width = Strip<T>(job.width - column).width;
      typename V::Scalar in[kColumns] = {};
      for (int64_t c = 0; c < width; ++c) {
        const auto value = widen(x[column + c]);
        if (!__builtin_isfinite(value)) continue;
        in[c] = value;
        ++finite;
      }
      sum.add(folded<V>(in));
    }
  }
  sum_and_count[0] = sum.total();
  sum_and_count[1] = static_cast<double>(finite);
}

template <typename T>
void abs_sums(const SumJob& job, int64_t begin, int64_t end, double* sum_and_count) {
  sum_and_count[0] = sum_all<T>(job, begin, end);
  sum_and_count[1] = static_cast<double>((end - begin) * job.width);
  if (!__builtin_isfinite(sum_and_count[0])) sum_finite<T>(job, begin, end, sum_and_count);
}

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
