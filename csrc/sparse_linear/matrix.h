// Operands of the products as matrices.
#pragma once

#include "../common.h"
#include "steps.h"

namespace dmt::sparse_linear {

inline Dtype dtype_of(ScalarType type) {
  if (type == ScalarType::Float) return Dtype::kFloat;
  if (type == ScalarType::Double) return Dtype::kDouble;
  return type == ScalarType::BFloat16 ? Dtype::kBfloat16 : Dtype::kHalf;
}

// A tensor seen as [rows][columns] with unit stride along columns; `owner` keeps the memory.
struct Matrix {
  Tensor owner;
  int64_t rows, columns, stride;
  char* data;

  template <class T = char>
  T* at(int64_t row, int64_t column, int64_t bytes) const {
    return reinterpret_cast<T*>(data + (row * stride + column) * bytes);
  }
  const uint64_t* words() const { return reinterpret_cast<const uint64_t*>(data); }
};

inline Matrix matrix(const Tensor& t) {
  const auto sizes = t.sizes();
  const int64_t dims = t.dim(), columns = sizes[dims - 1];
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < dims; ++d) rows *= sizes[d];
  if (dims == 2 && (t.stride(1) == 1 || columns <= 1))
    return {t, rows, columns, t.stride(0), static_cast<char*>(t.data_ptr())};
  const Tensor dense = t.is_contiguous() ? t : torch::stable::contiguous(t);
  return {dense, rows, columns, columns, static_cast<char*>(dense.data_ptr())};
}

// Rows [begin, begin + rows), seen.
inline Tensor rows_of(const Matrix& m, int64_t begin, int64_t rows) {
  if (rows == m.rows && m.owner.dim() == 2) return m.owner;
  const int64_t sizes[] = {rows, m.columns}, strides[] = {m.stride, 1};
  AtenTensorHandle seen = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch__reinterpret_tensor(m.owner.get(), 2, sizes, strides, begin * m.stride, &seen));
  return Tensor(seen);
}

}  // namespace dmt::sparse_linear
