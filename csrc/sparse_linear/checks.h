// Checks that the CPU and the CUDA operators share: one clear sentence each.
#pragma once

#include <string>

#include "../common.h"

namespace dmt::sparse_linear {

inline std::string shape(const Tensor& t) {
  std::string text = "[";
  for (int64_t d = 0; d < t.dim(); ++d) text += (d ? ", " : "") + std::to_string(t.size(d));
  return text + "]";
}

inline void check_type(const Tensor& t) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 ||
                      type == ScalarType::Half,
                  "sparse_linear: expected float32, float64, bfloat16 or float16 operands");
  STD_TORCH_CHECK(t.is_cpu() || type != ScalarType::Double,
                  "sparse_linear: float64 is for the CPU; on a GPU use float32, bfloat16 or float16");
}

inline void check_like(const char* name, const Tensor& t, const Tensor& like) {
  STD_TORCH_CHECK(t.is_cpu() == like.is_cpu() && t.get_device_index() == like.get_device_index(),
                  "sparse_linear: ", name, " must be on the device of the other operands");
  STD_TORCH_CHECK(t.scalar_type() == like.scalar_type(), "sparse_linear: ", name,
                  " must have the dtype of the other operands");
}

// Both have the same sizes but for the last one.
inline bool same_rows(const Tensor& a, const Tensor& b) {
  bool same = a.dim() >= 1 && a.dim() == b.dim();
  for (int64_t d = 0; same && d + 1 < a.dim(); ++d) same = a.size(d) == b.size(d);
  return same;
}

// `bits` belong to rows shaped as those of `rows`, `columns` wide.
inline void check_bits(const Tensor& bits, const Tensor& rows, int64_t columns) {
  STD_TORCH_CHECK(bits.is_cpu() == rows.is_cpu() && bits.get_device_index() == rows.get_device_index(),
                  "sparse_linear: bits must be on the device of the other operands");
  STD_TORCH_CHECK(bits.scalar_type() == ScalarType::Long, "sparse_linear: bits must be int64");
  STD_TORCH_CHECK(same_rows(bits, rows) && bits.size(bits.dim() - 1) == dmt::words(columns),
                  "sparse_linear: bits must hold one bit per column, 64 a word: expected the leading sizes of ",
                  shape(rows), " and ", dmt::words(columns), " words, got ", shape(bits));
}

inline void check_width(const Tensor& x, const Tensor& weight) {
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(1) == x.size(x.dim() - 1), "sparse_linear: weight ", shape(weight),
                  " must be [N, K] with the width of x ", shape(x));
}

inline void check_forward(const Tensor& x, const Tensor& bits, const Tensor& weight, const Tensor* bias) {
  check_type(x);
  check_like("weight", weight, x);
  STD_TORCH_CHECK(x.dim() >= 1, "sparse_linear: x must have at least 1 dimension");
  check_width(x, weight);
  check_bits(bits, x, x.size(x.dim() - 1));
  if (bias == nullptr) return;
  check_like("bias", *bias, x);
  STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == weight.size(0),
                  "sparse_linear: bias must have one value per row of weight ", shape(weight), ", got ", shape(*bias));
}

inline void check_grad_input(const Tensor& grad, const Tensor& bits, const Tensor& weight) {
  check_type(grad);
  check_like("weight", weight, grad);
  STD_TORCH_CHECK(grad.dim() >= 1, "sparse_linear: grad must have at least 1 dimension");
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(0) == grad.size(grad.dim() - 1), "sparse_linear: weight ",
                  shape(weight), " must be [N, K] with the width of grad ", shape(grad), " for N");
  check_bits(bits, grad, weight.size(1));
}

inline void check_grad_weight(const Tensor& grad, const Tensor& x, const Tensor& bits) {
  check_type(x);
  check_like("grad", grad, x);
  STD_TORCH_CHECK(same_rows(grad, x), "sparse_linear: grad ", shape(grad), " and x ", shape(x),
                  " must have the same leading sizes");
  check_bits(bits, x, x.size(x.dim() - 1));
}

}  // namespace dmt::sparse_linear
