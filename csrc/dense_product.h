// The dense product on the CPU, by whichever library does it fastest.
#pragma once

#include <algorithm>
#include <optional>

#include "common.h"

namespace dmt {

// Products with fewer multiplications, or a side shorter than this, oneDNN does not do faster than MKL.
constexpr int64_t kSmallProduct = 1 << 24, kSmallSide = 128;

// [M, K] x [N, K] -> [M, N]. oneDNN is reached through `dense_linear` in Python.
inline Tensor dense_product(const Tensor& left, const Tensor& right, const std::optional<Tensor>& bias) {
  const ScalarType type = left.scalar_type();
  const int64_t sizes[] = {left.size(0), left.size(1), right.size(0)};
  const bool small = *std::min_element(sizes, sizes + 3) < kSmallSide || sizes[0] * sizes[1] * sizes[2] < kSmallProduct;
  using torch::stable::detail::from;
  if (type == ScalarType::Float && !small) {
    StableIValue stack[3] = {from(left), from(right), from(bias)};
    TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("dmt_kernels::dense_linear", "", stack, TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
  }
  // The form with `out`, which autocast leaves alone.
  StableIValue stack[4] = {from(left), from(right), from(bias), from(empty({left.size(0), right.size(0)}, type, left))};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::linear", "out", stack, TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

}  // namespace dmt
