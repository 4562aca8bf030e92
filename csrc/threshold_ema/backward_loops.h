// Gradients to x and, per column, the sums that the gradient to theta wants. Part of loops.h.
#pragma once

#include "strip.h"

namespace dmt {
namespace DMT_ISA {
namespace {

// kRows rows of one strip. A vector of all rows is loaded before any is stored, as in sum_strip.
template <typename T, Store kStore, bool kInformation, int kRows>
inline void backward_strip(const BackwardJob& job, const T* const* grad, const T* const* x, T* const* grad_x,
                           int64_t column, void* partial) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  const V one = V::all(1), zero = V::all(0);
  const int64_t padded = job.words * kColumns;
  for (int j = 0; j < kVectors; ++j) {
    const int64_t at = column + j * kLanes;
    const V bound = V::load(static_cast<const A*>(job.thresholds) + at),
            inverse = V::load(static_cast<const A*>(job.inverses) + at);
    const auto windowed = inverse > zero;
    V k[kCoefficients];  // push, slope_q, mean_q, slope_p, mean_p
    for (int c = 0; c < (kInformation ? kCoefficients : 0); ++c)
      k[c] = V::load(static_cast<const A*>(job.information) + c * padded + at);
    V pulled = V::load(static_cast<A*>(partial) + at);
    V value[kRows], g[kRows];
    for (int r = 0; r < kRows; ++r) {
      value[r] = V::load(x[r] + j * kLanes);
      g[r] = job.grad ? V::load(grad[r] + j * kLanes) : zero;
    }
    for (int r = 0; r < kRows; ++r) {
      const V size = value[r].abs();
      const auto live = size > bound;
      if (kInformation) g[r] = g[r] + (value[r].where(live) - k[4]).times_plus(k[3], k[0]);
      V out = g[r].where(live);
      if (kInformation) out = out + (value[r] - k[2]).times_plus(k[1], zero - k[0]);
      put_out<kStore>(out, grad_x[r] + j * kLanes);
      const V v = size * inverse - one;
      const V bump = one - v * v;  // positive exactly within the window; NaN is not
      pulled = pulled.plus_where((bump > zero) & windowed, g[r] * value[r] * (bump * bump));
    }
    pulled.store(static_cast<A*>(partial) + at);
  }
}

template <typename T, Store kStore, bool kInformation, int kRows>
inline void backward_tall(const BackwardJob& job, int64_t row, void* partial) {
  for (int64_t w = 0; w < job.words; ++w) {
    const int64_t column = w * kColumns;
    const Strip<T> strip(job.width - column);
    const T *grad[kRows], *x[kRows];
    T* grad_x[kRows];
    T in[kRows][kColumns], grad_in[kRows][kColumns], out[kRows][kColumns];
    for (int r = 0; r < kRows; ++r) {
      const int64_t place = (row + r) * job.width + column;
      grad[r] = job.grad ? static_cast<const T*>(job.grad) + place : nullptr;
      x[r] = static_cast<const T*>(job.x) + (row + r) * job.row_stride + column;
      grad_x[r] = static_cast<T*>(job.grad_x) + place;
    }
    if (strip.whole()) {
      backward_strip<T, kStore, kInformation, kRows>(job, grad, x, grad_x, column, partial);
      continue;
    }
    T* outs[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = strip.padded(x[r], in[r]);
      if (job.grad) grad[r] = strip.padded(grad[r], grad_in[r]);
      outs[r] = out[r];
    }
    backward_strip<T, Store::cached, kInformation, kRows>(job, grad, x, outs, column, partial);
    for (int r = 0; r < kRows; ++r)
      std::memcpy(static_cast<void*>(grad_x[r]), out[r], sizeof(T) * static_cast<size_t>(strip.width));
  }
}

// Whole rows, a few at a time, as memory streams them; sums of kSummedRows rows in the arithmetic of x, then in double.
template <typename T, Store kStore, bool kInformation>
void backward_rows_as(const BackwardJob& job, int64_t begin, int64_t end, double* pulled, void* partial) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  constexpr int kTall = tall<kStore>();
  const int64_t padded = job.words * kColumns;
  for (int64_t top = begin; top < end; top += kSummedRows) {
    const int64_t bottom = top + kSummedRows < end ? top + kSummedRows : end;
    std::memset(partial, 0, sizeof(A) * static_cast<size_t>(padded));
    int64_t row = top;
    for (; row + kTall <= bottom; row += kTall) backward_tall<T, kStore, kInformation, kTall>(job, row, partial);
    for (; row < bottom; ++row) backward_tall<T, kStore, kInformation, 1>(job, row, partial);
    for (int64_t column = 0; column < padded; column += kLanes)
      V::load(static_cast<const A*>(partial) + column).add_to(pulled + column);
  }
  if (kStore == Store::past) end_stream();
}

template <typename T>
void backward_rows(const BackwardJob& job, int64_t begin, int64_t end, double* pulled, void* partial) {
  const bool past = job.stream && job.width == job.words * kColumns;
  if (job.information) {
    past ? backward_rows_as<T, Store::past, true>(job, begin, end, pulled, partial)
         : backward_rows_as<T, Store::cached, true>(job, begin, end, pulled, partial);
  } else {
    past ? backward_rows_as<T, Store::past, false>(job, begin, end, pulled, partial)
         : backward_rows_as<T, Store::cached, false>(job, begin, end, pulled, partial);
  }
}

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
