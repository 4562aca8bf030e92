// The dense product on the CPU, by whichever library does it fastest, without a look-up by name or a Python frame.
#pragma once

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <optional>

#include "common.h"

// Absent from a torch that was built without oneDNN.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_cpu__linear_pointwise(
    AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* bias, const char* attribute, const double** scalars,
    int64_t count, const char** algorithm, AtenTensorHandle* result);

namespace dmt {

// The transpose of a matrix, seen; torch::stable::transpose looks its operator up by name at each call.
inline Tensor transposed(const Tensor& t) {
  const int64_t sizes[] = {t.size(1), t.size(0)}, strides[] = {t.stride(1), t.stride(0)};
  AtenTensorHandle seen = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch__reinterpret_tensor(t.get(), 2, sizes, strides, 0, &seen));
  return Tensor(seen);
}

// Whether oneDNN does left [M, K] x right [K, N] faster than MKL: never on an Intel processor. On AMD's it takes some
// 12 us to begin, and wins where the product is large and no side is short; earlier where the right side lies as it is
// needed; else also for a few rows of a large one, though not for a few more.
inline bool onednn_is_faster(const Tensor& left, const Tensor& right) {
  if (intel()) return false;
  const int64_t m = left.size(0), k = left.size(1), n = right.size(1);
  const bool wide = k >= 128 && n >= 128, heavy = k * n >= int64_t{1} << 18, large = m * k * n >= int64_t{1} << 24;
  const bool left_by_rows = left.stride(1) == 1, right_by_columns = right.stride(1) == 1;
  if (left_by_rows && right_by_columns) return wide && (large || (m >= 4 && heavy));
  if (left_by_rows && m >= 2 && m <= 8) return wide && heavy;
  return wide && large && m >= 128;
}

// out [M, N] = left [M, K] x right [K, N] + bias, which is [N], or what the result is added to: `out` itself, perhaps.
inline void dense_product_into(const Tensor& out, const Tensor& left, const Tensor& right,
                               const std::optional<Tensor>& bias) {
  if (bias) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_addmm_out(out.get(), bias->get(), left.get(), right.get(), 1.0, 1.0));
  } else {
    TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.get(), left.get(), right.get()));
  }
}

// [M, K] x [K, N] -> [M, N].
inline Tensor dense_product(const Tensor& left, const Tensor& right, const std::optional<Tensor>& bias) {
  if (left.scalar_type() == ScalarType::Float && aoti_torch_cpu__linear_pointwise != nullptr &&
      onednn_is_faster(left, right)) {
    AtenTensorHandle made = nullptr, b = bias ? bias->get() : nullptr;
    const char* algorithm = "";
    TORCH_ERROR_CODE_CHECK(aoti_torch_cpu__linear_pointwise(left.get(), transposed(right).get(), bias ? &b : nullptr,
                                                            "none", nullptr, 0, &algorithm, &made));
    return Tensor(made);
  }
  const Tensor out = empty({left.size(0), right.size(1)}, left.scalar_type(), left);
  dense_product_into(out, left, right, bias);
  return out;
}

}  // namespace dmt
