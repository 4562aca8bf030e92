// The loops of threshold_ema, compiled once per instruction set (see simd.h).
#pragma once

#include "divergence_loops.h"
#include "mask_loops.h"
#include "strip.h"

namespace dmt {
namespace DMT_ISA {
namespace {

template <typename T>
void abs_sums(const void* data, int64_t count, double* sum_and_count) {
  using V = typename ArithmeticOf<T>::V;
  const T* x = static_cast<const T*>(data);
  typename V::Sum sums[4];
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) sums[j].add_abs(x + i + j * kLanes);
  }
  double total = (sums[0].total() + sums[1].total()) + (sums[2].total() + sums[3].total());
  for (; i < count; ++i) total += __builtin_fabs(static_cast<double>(widen(x[i])));
  int64_t finite = count;
  if (!__builtin_isfinite(total)) {
    total = 0;
    finite = 0;
    for (i = 0; i < count; ++i) {
      const double value = __builtin_fabs(static_cast<double>(widen(x[i])));
      if (__builtin_isfinite(value)) {
        total += value;
        ++finite;
      }
    }
  }
  sum_and_count[0] = total;
  sum_and_count[1] = static_cast<double>(finite);
}

// Of one column strip; `k` are the divergence coefficients: push, slope_q, mean_q, slope_p, mean_p.
template <typename V, typename T, bool kInformation>
inline void backward_word(const T* grad, const T* x, T* grad_x, const V* thresholds, const V* inverses,
                          const V (*k)[kVectors], V* pulled) {
  const V one = V::all(1), zero = V::all(0);
  for (int j = 0; j < kVectors; ++j) {
    const V value = V::load(x + j * kLanes), size = value.abs();
    V g = grad ? V::load(grad + j * kLanes) : zero;
    const auto live = size > thresholds[j];
    if (kInformation) g = g + (value.where(live) - k[4][j]).times_plus(k[3][j], k[0][j]);
    V out = g.where(live);
    if (kInformation) out = out + (value - k[2][j]).times_plus(k[1][j], zero - k[0][j]);
    out.store(grad_x + j * kLanes);
    const V v = size * inverses[j] - one;
    const V bump = one - v * v;  // positive exactly within the window; NaN is not
    const auto inside = (bump > zero) & (inverses[j] > zero);
    pulled[j] = pulled[j] + (g * value * bump * bump).where(inside);
  }
}

template <typename T, bool kInformation>
void backward_rows_as(const BackwardJob& job, int64_t begin, int64_t end, double* pulled) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  const T* grad = static_cast<const T*>(job.grad);
  const T* x = static_cast<const T*>(job.x);
  T* grad_x = static_cast<T*>(job.grad_x);
  const A* thresholds = static_cast<const A*>(job.thresholds);
  const A* inverses = static_cast<const A*>(job.inverses);
  const A* information = static_cast<const A*>(job.information);
  const int64_t padded = job.words * kColumns;
  for (int64_t top = begin; top < end; top += kRows) {
    const int64_t bottom = top + kRows < end ? top + kRows : end;
    for (int64_t w = 0; w < job.words; ++w) {
      const int64_t column = w * kColumns;
      const Strip<T> strip{job.width - column < kColumns ? job.width - column : kColumns};
      V bound[kVectors], inverse[kVectors], coefficients[kCoefficients][kVectors], total[kVectors];
      for (int j = 0; j < kVectors; ++j) {
        const int64_t at = column + j * kLanes;
        bound[j] = V::load(thresholds + at);
        inverse[j] = V::load(inverses + at);
        total[j] = V::all(A(0));
        for (int c = 0; c < (kInformation ? kCoefficients : 0); ++c)
          coefficients[c][j] = V::load(information + c * padded + at);
      }
      for (int64_t row = top; row < bottom; ++row) {
        const T* from = x + row * job.row_stride + column;
        const T* g = grad ? grad + row * job.width + column : nullptr;
        T* to = grad_x + row * job.width + column;
        if (strip.whole()) {
          backward_word<V, T, kInformation>(g, from, to, bound, inverse, coefficients, total);
        } else {
          T in[kColumns], g_in[kColumns], out[kColumns];
          if (g) g = strip.padded(g, g_in);
          backward_word<V, T, kInformation>(g, strip.padded(from, in), out, bound, inverse, coefficients, total);
          std::memcpy(static_cast<void*>(to), out, sizeof(T) * static_cast<size_t>(strip.width));
        }
      }
      for (int j = 0; j < kVectors; ++j) total[j].add_to(pulled + column + j * kLanes);
    }
  }
}

template <typename T>
void backward_rows(const BackwardJob& job, int64_t begin, int64_t end, double* pulled) {
  if (job.information) {
    backward_rows_as<T, true>(job, begin, end, pulled);
  } else {
    backward_rows_as<T, false>(job, begin, end, pulled);
  }
}

template <typename T>
constexpr Loops loops_of() {
  return {abs_sums<T>, mask_rows<T>, finish_divergence<T>, backward_rows<T>};
}

}  // namespace

Loops loops(Float dtype) {
  switch (dtype) {
    case Float::f64:
      return loops_of<double>();
    case Float::bf16:
      return loops_of<BFloat16>();
    case Float::f16:
      return loops_of<Float16>();
    default:
      return loops_of<float>();
  }
}

}  // namespace DMT_ISA
}  // namespace dmt
