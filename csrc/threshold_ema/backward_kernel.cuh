// The backward pass of threshold_ema: the gradient to x where it is live, and the sums that make the gradient to theta.
#pragma once

#include "strips.cuh"

namespace dmt {

template <typename T>
struct BackwardArguments {
  const T* grad;                 // contiguous, or null: zero
  const void* grad_information;  // A, or null
  const T* x;
  Cut cut;
  int64_t stride;
  Theta theta;
  const float* state;
  const void* statistics;  // A [4, width]
  bool only_live;          // the gradient counts where x is live, and is not to be looked at elsewhere
  T* grad_x;
  T* values;          // x masked; or null
  void* grad_theta;   // dtype of theta
  double* partial;    // [runs][64 * strips] for theta [D], else [blocks]
  unsigned* tickets;  // [strips], zero before
  bool streaming;
};

// What the columns of a strip have in common; past the width it does no harm.
template <typename T>
struct StripConstants {
  using A = typename Arithmetic<T>::A;
  A bounds[kColumns], inverses[kColumns], slopes[kCoefficients][kColumns];
};

template <typename T, bool kInformation>
__device__ void load_constants(const BackwardArguments<T>& a, int64_t strip, StripConstants<T>& to) {
  using A = typename Arithmetic<T>::A;
  const int64_t c = strip * kColumns + threadIdx.x;
  if (threadIdx.x < kColumns) {
    const bool exists = c < a.cut.width;
    const double mu = static_cast<double>(a.state[0]);
    const A t = static_cast<A>(exists || !a.theta.per_feature ? sigmoid(a.theta.at(c)) * mu : 0.0);
    to.bounds[threadIdx.x] = t;
    to.inverses[threadIdx.x] = t > A(0) ? A(1) / t : A(0);
    if (kInformation && exists) {
      const A* s = static_cast<const A*>(a.statistics) + c;
      const int64_t width = a.cut.width;
      const double upstream = static_cast<double>(*static_cast<const A*>(a.grad_information));
      const double scale = upstream / (static_cast<double>(a.cut.rows) * static_cast<double>(width));
      double exact[kCoefficients];
      divergence_coefficients(s[0], s[width], s[2 * width], s[3 * width], scale, exact);
      for (int i = 0; i < kCoefficients; ++i) to.slopes[i][threadIdx.x] = static_cast<A>(exact[i]);
    }
  }
  __syncthreads();
}

template <typename A>
__device__ void put(void* to, bool wide, int64_t i, A value) {
  if (wide) {
    static_cast<double*>(to)[i] = static_cast<double>(value);
  } else {
    static_cast<float*>(to)[i] = static_cast<float>(value);
  }
}

// theta [D]: the last block of a strip adds its columns.
template <typename T>
__device__ void finish_columns(const BackwardArguments<T>& a, const Share<T>& share,
                               const StripConstants<T>& constants) {
  if (!last_to_arrive(a.tickets + share.strip, static_cast<unsigned>(a.cut.runs))) return;
  const int64_t c = static_cast<int64_t>(share.strip) * kColumns + threadIdx.x;
  double pulled[1];
  total_columns<1>(a.partial + static_cast<int64_t>(share.strip) * kColumns, a.cut.runs, a.cut.strips * kColumns,
                   pulled);
  if (threadIdx.x >= kColumns || c >= a.cut.width) return;
  const double here = -15.0 / 16.0 * static_cast<double>(constants.inverses[threadIdx.x]) * pulled[0];
  put(a.grad_theta, a.theta.wide, c, here * threshold_slope(a.theta.at(c), static_cast<double>(a.state[0])));
}

// One theta: each block leaves one sum, and the last of all adds them in order.
template <typename T>
__device__ void finish_one(const BackwardArguments<T>& a, double pulled, const StripConstants<T>& constants) {
  const double sum = block_sum({pulled, 0}).x;
  if (threadIdx.x == 0) a.partial[blockIdx.x] = sum;
  if (!last_to_arrive(a.tickets, gridDim.x)) return;
  double total = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kThreads) total += static_cast<volatile double*>(a.partial)[i];
  total = block_sum({total, 0}).x;
  if (threadIdx.x != 0) return;
  const double slope = threshold_slope(a.theta.at(0), static_cast<double>(a.state[0]));
  put(a.grad_theta, a.theta.wide, 0, -15.0 / 16.0 * static_cast<double>(constants.inverses[0]) * total * slope);
}

template <typename T, bool kInformation>
struct Differentiator {
  using A = typename Arithmetic<T>::A;
  A bound[kPack<T>], inverse[kPack<T>], slope[kInformation ? kCoefficients : 1][kPack<T>], pulled[1][kPack<T>] = {};

  __device__ Differentiator(const StripConstants<T>& constants, int part) {
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) {
      const int c = part * kPack<T> + j;
      bound[j] = constants.bounds[c];
      inverse[j] = constants.inverses[c];
      for (int i = 0; kInformation && i < kCoefficients; ++i) slope[i][j] = constants.slopes[i][c];
    }
  }

  // `grad`, the gradient to a pack of x after the mask, becomes that to x, and `x` what is left of it. What does not
  // exist is 0 in both.
  __device__ void operator()(int4& x, int4& grad, bool only_live) {
    T values[kPack<T>], upstream[kPack<T>];
    memcpy(values, &x, 16);
    memcpy(upstream, &grad, 16);
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) {
      const A value = widen(values[j]), size = fabs(value);
      const bool live = size > bound[j];
      A g = live || !only_live ? widen(upstream[j]) : A(0);
      if (kInformation) g += slope[0][j] + slope[3][j] * ((live ? value : A(0)) - slope[4][j]);
      A out = live ? g : A(0);
      if (kInformation) out += slope[1][j] * (value - slope[2][j]) - slope[0][j];
      upstream[j] = narrow<T>(out);
      if (!live) values[j] = narrow<T>(A(0));
      const A v = size * inverse[j] - A(1), bump = A(1) - v * v;  // positive exactly within the window
      if (bump > A(0) && inverse[j] > A(0)) pulled[0][j] += g * value * bump * bump;
    }
    memcpy(&x, values, 16);
    memcpy(&grad, upstream, 16);
  }
};

template <typename T, bool kInformation>
__global__ void __launch_bounds__(kThreads, kInformation || sizeof(T) == 8 ? 2 : 3)
    backward_kernel(const BackwardArguments<T> a) {
  constexpr int kTogether = 2;  // of x and of the gradient
  __shared__ StripConstants<T> constants;
  const Share<T> share(a.cut, blockIdx.x);
  const Reader<T> x(a.x, a.stride, share), grad(a.grad, a.cut.width, share);
  const bool whole = a.cut.width % kPack<T> == 0 && share.there == kPack<T>;
  load_constants<T, kInformation>(a, share.strip, constants);
  Differentiator<T, kInformation> differentiate(constants, share.part);
  for (int64_t row = share.row; row < share.end; row += kTogether * kRows<T>) {
    int4 values[kTogether], upstream[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int64_t at = row + i * kRows<T>;
      values[i] = x.at(at, share.existing_in(at));
      upstream[i] = a.grad ? grad.at(at, share.existing_in(at)) : int4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int64_t at = row + i * kRows<T>;
      if (at >= share.end || share.there == 0) break;
      differentiate(values[i], upstream[i], a.only_live);
      const int64_t place = at * a.cut.width + share.column;
      store_pack(a.grad_x + place, upstream[i], share.there, whole, a.streaming);
      if (a.values) store_pack(a.values + place, values[i], share.there, whole, a.streaming);
    }
  }
  if (a.theta.per_feature) {
    const int64_t place = share.run * a.cut.strips * kColumns + static_cast<int64_t>(share.strip) * kColumns;
    store_column_sums<T, 1>(differentiate.pulled, a.partial + place, 0);
    finish_columns(a, share, constants);
    return;
  }
  double pulled = 0;
#pragma unroll
  for (int j = 0; j < kPack<T>; ++j) pulled += static_cast<double>(differentiate.pulled[0][j]);
  finish_one(a, pulled, constants);
}

}  // namespace dmt
