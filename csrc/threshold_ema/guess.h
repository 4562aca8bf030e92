// Where mu will be after a step, from a sample of x. With a good guess one pass over x does what otherwise takes two:
// the mask is made with a threshold known to lie between two, and what lies between these is made again.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "checks.h"
#include "jobs.h"

namespace dmt {

struct Range {
  float low, high;  // of mu
  bool narrow;      // enough that little has to be made again
};

// Sum of |x| and its spread, from pieces spread over rows and columns.
class Sample {
 public:
  Sample(const Rows& x, int64_t element_size, AbsSums sum) {
    const int64_t across = (x.width + kPiece - 1) / kPiece, places = x.rows * across;
    pieces_ = x.rows * x.width / (kShare * kPiece);
    const double step = static_cast<double>(places) / static_cast<double>(std::max<int64_t>(pieces_, 1));
    for (int64_t i = 0; i < pieces_; ++i) {
      const double golden = static_cast<double>(i) * 0.6180339887498949;  // spreads over columns as over rows
      const auto place = static_cast<int64_t>((static_cast<double>(i) + golden - std::floor(golden)) * step);
      const int64_t row = std::min(place / across, x.rows - 1), column = place % across * kPiece;
      double here[2];
      sum({static_cast<const char*>(x.data) + column * element_size, x.stride, std::min(kPiece, x.width - column)}, row,
          row + 1, here);
      add(here[0], here[1]);
    }
  }
  double mean() const { return sum_ / count_; }
  // Standard error of the mean: pieces as wholes, since neighbours are alike.
  double error() const {
    const double m = mean(), n = static_cast<double>(pieces_);
    const double squares = std::max(sum_sum_ - 2 * m * sum_count_ + m * m * count_count_, 0.0);
    return std::sqrt(squares * n / (n - 1)) / count_;
  }
  bool enough() const { return pieces_ >= 16; }

 private:
  static constexpr int64_t kPiece = 256, kShare = 32;
  void add(double sum, double count) {
    sum_ += sum, count_ += count;
    sum_sum_ += sum * sum, sum_count_ += sum * count, count_count_ += count * count;
  }
  int64_t pieces_;
  double sum_ = 0, count_ = 0, sum_sum_ = 0, sum_count_ = 0, count_count_ = 0;
};

// `state` is the one before the step.
inline Range guess_mu(const Rows& x, int64_t element_size, AbsSums sum, const float* state, double alpha) {
  constexpr double kErrors = 3, kRounding = 1e-6;
  constexpr float kNarrow = 1.0f / 64;
  const Sample sample(x, element_size, sum);
  if (!sample.enough()) return {0, 0, false};
  const double mean = sample.mean(), reach = kErrors * sample.error() + kRounding * mean;
  float low[kStateSize], high[kStateSize];
  next_state(state, std::max(mean - reach, 0.0), 1, alpha, low);
  next_state(state, mean + reach, 1, alpha, high);
  return {low[0], high[0], high[0] - low[0] <= kNarrow * high[0]};  // false for NaN
}

}  // namespace dmt
