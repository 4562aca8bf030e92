// Shared by all operators: output tensors, call counters, the instruction set in use.
// Stable ABI of torch only. Not for translation units of one instruction set: see simd.h.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "call_counter.h"
#include "isa.h"

namespace dmt {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A new contiguous tensor on the device of `like`, not initialised.
inline Tensor empty(const int64_t* sizes, int64_t dims, ScalarType dtype, const Tensor& like) {
  int64_t strides[64];
  STD_TORCH_CHECK(dims <= 64, "at most 64 dimensions, got ", dims);
  int64_t step = 1;
  for (int64_t d = dims - 1; d >= 0; --d) {
    strides[d] = step;
    step *= sizes[d] > 1 ? sizes[d] : 1;
  }
  int32_t device = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      dims, sizes, strides, torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)), device,
      like.get_device_index(), &made));
  return Tensor(made);
}

inline Tensor empty(std::initializer_list<int64_t> sizes, ScalarType dtype, const Tensor& like) {
  return empty(sizes.begin(), static_cast<int64_t>(sizes.size()), dtype, like);
}

// The same, shaped as `x` but for its last dimension.
inline Tensor empty_with_width(const Tensor& x, int64_t width, ScalarType dtype) {
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes.back() = width;
  return empty(sizes.data(), static_cast<int64_t>(sizes.size()), dtype, x);
}

// torch::stable::contiguous looks its operator up by name at each call; most tensors need no call.
inline Tensor as_contiguous(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

inline int64_t thread_count() { return static_cast<int64_t>(torch::stable::get_num_threads()); }

inline int64_t words(int64_t width) { return (width + 63) / 64; }

}  // namespace dmt
