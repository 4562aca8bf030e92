// What the operator demands of its arguments, on any device.
#pragma once

#include "../common.h"
#include "arithmetic.h"

namespace dmt {

inline void check(const Tensor& x, const Tensor& theta, const Tensor& state) {
  const ScalarType t = theta.scalar_type();
  STD_TORCH_CHECK(x.dim() >= 1, "threshold_ema expects x [..., D], got a tensor without dimensions");
  STD_TORCH_CHECK(
      t == ScalarType::Float || t == ScalarType::Double || t == ScalarType::BFloat16 || t == ScalarType::Half,
      "threshold_ema expects a floating-point theta");
  STD_TORCH_CHECK(theta.dim() == 0 || (theta.dim() == 1 && theta.size(0) == x.size(x.dim() - 1)),
                  "theta must have no dimensions or [", x.size(x.dim() - 1), "] as x has");
  STD_TORCH_CHECK(state.scalar_type() == ScalarType::Float && state.dim() == 1 && state.size(0) == kStateSize,
                  "state must be float32 [", kStateSize, "] from ema_state()");
  STD_TORCH_CHECK(x.device() == theta.device() && x.device() == state.device(),
                  "x, theta and state must share a device");
}

inline void check_sums(const Tensor& sums, const Tensor& x) {
  STD_TORCH_CHECK(sums.scalar_type() == ScalarType::Double && sums.numel() == 2 && sums.device() == x.device(),
                  "sums must be float64 [2] from abs_sums, on the device of x");
}

inline void check_backward(const Tensor* grad, const Tensor* grad_information, const Tensor& x,
                           const Tensor& statistics) {
  const bool same = grad == nullptr || (grad->numel() == x.numel() && grad->scalar_type() == x.scalar_type() &&
                                        grad->device() == x.device());
  STD_TORCH_CHECK(same, "the gradient must have the shape, dtype and device of x");
  STD_TORCH_CHECK(grad_information == nullptr || grad_information->numel() == 1,
                  "the gradient of the information term must be one number");
  STD_TORCH_CHECK(statistics.dim() == 2 && statistics.size(0) == 4, "statistics must be [4, D] or [4, 0]");
}

// x as rows [rows, width] with one stride between rows and none within. `held` keeps a copy alive where one is needed.
struct Rows {
  Tensor held;
  const void* data;
  int64_t rows, width, stride;
  bool flat() const { return stride == width || rows <= 1; }
};

inline Rows as_rows(const Tensor& x) {
  const int64_t dims = x.dim(), width = x.size(dims - 1);
  const int64_t rows = width == 0 ? 0 : x.numel() / width;
  if (x.is_contiguous()) return {x, x.const_data_ptr(), rows, width, width};
  bool simple = x.stride(dims - 1) == 1 || width == 1;
  int64_t stride = width, next = 0;  // of the row; of the dimension before, if rows go on evenly
  for (int64_t d = dims - 2; d >= 0; --d) {
    if (x.size(d) == 1) continue;
    if (next == 0) {
      stride = x.stride(d);
    } else if (x.stride(d) != next) {
      simple = false;
    }
    next = x.stride(d) * x.size(d);
  }
  if (simple && stride >= width) return {x, x.const_data_ptr(), rows, width, stride};
  const Tensor copy = as_contiguous(x);
  return {copy, copy.const_data_ptr(), rows, width, width};
}

}  // namespace dmt
