// The loops of threshold_ema, compiled once per instruction set (see simd.h).
#pragma once

#include "../simd.h"
#include "jobs.h"

namespace dmt {
namespace DMT_ISA {
namespace {

constexpr int kColumns = 64;  // of one word
constexpr int kVectors = kColumns / kLanes;
constexpr int kCoefficients = 5;
constexpr int64_t kRows = 16;  // summed in float before they are added to double

// A strip of up to 64 columns: the last of a row may be narrower and goes through a buffer.
template <typename T>
struct Strip {
  int64_t width;  // columns of this strip
  bool whole() const { return width == kColumns; }
  const T* padded(const T* from, T* buffer) const {
    std::memset(static_cast<void*>(buffer), 0, sizeof(T) * kColumns);
    std::memcpy(static_cast<void*>(buffer), from, sizeof(T) * static_cast<size_t>(width));
    return buffer;
  }
};

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

// One word: compare, store the live values, return the bits; x and the mask stay for the statistics.
template <typename V, typename T, bool kStore>
inline uint64_t mask_word(const T* x, const V* thresholds, T* values, V* loaded, typename V::Mask* live) {
  uint64_t word = 0;
  for (int j = 0; j < kVectors; ++j) {
    loaded[j] = V::load(x + j * kLanes);
    live[j] = loaded[j].abs() > thresholds[j];
    if (kStore) loaded[j].where(live[j]).store(values + j * kLanes);
    word |= static_cast<uint64_t>(live[j].bits()) << (j * kLanes);
  }
  return word;
}

template <typename T, bool kStore, bool kSums>
int64_t mask_rows_as(const MaskJob& job, int64_t begin, int64_t end, double* sums) {
  using V = typename ArithmeticOf<T>::V;
  using A = typename V::Scalar;
  const T* x = static_cast<const T*>(job.x);
  T* values = static_cast<T*>(job.values);
  const A* thresholds = static_cast<const A*>(job.thresholds);
  const A* shifts = static_cast<const A*>(job.shifts);
  constexpr int kStatistics = kSums ? 5 : 1;
  const int64_t padded = job.words * kColumns;
  int64_t live = 0;
  V bound[kVectors];
  for (int j = 0; j < kVectors && job.words > 0; ++j) bound[j] = V::load(thresholds + j * kLanes);
  // With sums: 32 rows of one strip at a time, so that the sums stay in registers. Without: row after row.
  const int64_t tall = kSums ? kRows : 1;
  for (int64_t top = begin; top < end; top += tall) {
    const int64_t bottom = top + tall < end ? top + tall : end;
    for (int64_t w = 0; w < job.words; ++w) {
      const int64_t column = w * kColumns;
      const Strip<T> strip{job.width - column < kColumns ? job.width - column : kColumns};
      V shift[kVectors], total[kStatistics][kVectors];
      for (int j = 0; j < kVectors; ++j) {
        if (!job.uniform) bound[j] = V::load(thresholds + column + j * kLanes);
        if (kSums) shift[j] = V::load(shifts + column + j * kLanes);
        for (auto& of : total) of[j] = V::all(A(0));
      }
      for (int64_t row = top; row < bottom; ++row) {
        const T* from = x + row * job.row_stride + column;
        T* to = kStore ? values + row * job.width + column : nullptr;
        V loaded[kVectors];
        typename V::Mask alive[kVectors];
        uint64_t word;
        if (strip.whole()) {
          word = mask_word<V, T, kStore>(from, bound, to, loaded, alive);
        } else {
          T in[kColumns], out[kColumns];
          word = mask_word<V, T, kStore>(strip.padded(from, in), bound, out, loaded, alive);
          if (kStore) std::memcpy(static_cast<void*>(to), out, sizeof(T) * static_cast<size_t>(strip.width));
        }
        job.bits[row * job.words + w] = word;
        live += __builtin_popcountll(word);
        if constexpr (kSums) {
          for (int j = 0; j < kVectors; ++j) {
            const V d = loaded[j] - shift[j], e = d.where(alive[j]);
            total[0][j] = total[0][j] + d;
            total[1][j] = d.times_plus(d, total[1][j]);
            total[2][j] = total[2][j] + e;
            total[3][j] = e.times_plus(e, total[3][j]);
            total[4][j] = total[4][j] + V::all(A(1)).where(alive[j]);
          }
        }
      }
      if constexpr (kSums) {
        for (int s = 0; s < kStatistics; ++s) {
          for (int j = 0; j < kVectors; ++j) total[s][j].add_to(sums + s * padded + column + j * kLanes);
        }
      }
    }
  }
  return live;
}

template <typename T>
int64_t mask_rows(const MaskJob& job, int64_t begin, int64_t end, double* sums) {
  if (sums != nullptr) {
    return job.values ? mask_rows_as<T, true, true>(job, begin, end, sums)
                      : mask_rows_as<T, false, true>(job, begin, end, sums);
  }
  return job.values ? mask_rows_as<T, true, false>(job, begin, end, sums)
                    : mask_rows_as<T, false, false>(job, begin, end, sums);
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
  return {abs_sums<T>, mask_rows<T>, backward_rows<T>};
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
