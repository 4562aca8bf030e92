// The scalar arithmetic of threshold_ema, the same for host and device. See reference.py for the meaning.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define DMT_BOTH __host__ __device__ inline
#else
#define DMT_BOTH inline
#endif

namespace dmt {

constexpr int kStateSize = 4;      // mu, updates, step, seen
constexpr double kEpsilon = 1e-6;  // added to both variances of eq. 10

// Eq. 6. `state` and `next` are float [4]; nothing to absorb leaves the state as it is.
DMT_BOTH void next_state(const float* state, double sum, double count, double alpha, float* next) {
  const double mean = sum / count;
  const float step = state[2];
  const bool repeated = step != 0.0f && state[3] == step;
  const bool absorb = mean - mean == 0.0 && !repeated;  // false for NaN and infinity
  const double moved = state[1] == 0.0f ? mean : alpha * static_cast<double>(state[0]) + (1.0 - alpha) * mean;
  next[0] = absorb ? static_cast<float>(moved) : state[0];
  next[1] = absorb ? state[1] + 1.0f : state[1];
  next[2] = step;
  next[3] = absorb ? step : state[3];
}

// Eq. 5.
DMT_BOTH double sigmoid(double theta) { return 1.0 / (1.0 + exp(-theta)); }

// dt / dtheta of t = sigmoid(theta) mu.
DMT_BOTH double threshold_slope(double theta, double mu) {
  const double s = sigmoid(theta);
  return s * (1.0 - s) * mu;
}

// Sums over the rows of one feature: of d = x - shift and d^2 over all rows, then over live rows, and the live rows.
// A shift near the values keeps their variance from cancelling; dead rows come in exactly, as zeros.
constexpr int kSums = 5;

// From those sums: mean and variance of x, then of x after the mask.
DMT_BOTH void moments(const double* sums, double shift, double rows, double* m) {
  if (rows == 0.0) rows = 1.0;
  const double live = sums[4] > 0.0 ? sums[4] : 1.0, share = sums[4] / rows;
  const double offset = sums[0] / rows, live_offset = sums[2] / live;
  const double variance = sums[1] / rows - offset * offset, live_variance = sums[3] / live - live_offset * live_offset;
  const double live_mean = shift + live_offset;
  m[0] = shift + offset;
  m[1] = variance < 0.0 ? 0.0 : variance;  // a NaN stays
  m[2] = share * live_mean;
  m[3] = share * (live_variance < 0.0 ? 0.0 : live_variance) + share * (1.0 - share) * live_mean * live_mean;
}

// One feature of eq. 10: q is unmasked, p is masked.
DMT_BOTH double divergence(double mean_q, double var_q, double mean_p, double var_p) {
  var_q += kEpsilon;
  var_p += kEpsilon;
  const double shift = mean_p - mean_q;
  return 0.5 * (log(var_q / var_p) + (var_p + shift * shift) / var_q - 1.0);
}

// For the gradient of one feature: push, slope_q, mean_q, slope_p, mean_p; the slopes and the push times `scale` =
// upstream gradient / (rows * features). See reference.divergence_slopes.
constexpr int kCoefficients = 5;
DMT_BOTH void divergence_coefficients(double mean_q, double var_q, double mean_p, double var_p, double scale,
                                      double* coefficients) {
  var_q += kEpsilon;
  var_p += kEpsilon;
  const double shift = mean_p - mean_q;
  const double slope_q = (1.0 / var_q - (var_p + shift * shift) / (var_q * var_q)) * scale;
  const double slope_p = (1.0 / var_q - 1.0 / var_p) * scale;
  const double push = shift / var_q * scale;
  coefficients[0] = push;
  coefficients[1] = slope_q;
  coefficients[2] = mean_q;
  coefficients[3] = slope_p;
  coefficients[4] = mean_p;
}

}  // namespace dmt
