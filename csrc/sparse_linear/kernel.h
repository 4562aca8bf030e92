// The steps of steps.h, for the instruction set this translation unit is compiled for.
#pragma once

#include "sample.h"

namespace dmt::sparse_linear {
namespace {

template <class S, int V>
constexpr Blocking blocking() {
  Blocking b{kBlock<Sum<S>, V>, pack_transposed<S, V>, pack_straight<S, V>, nullptr, nullptr,
             nullptr,           grad_input<S, V>};
  if constexpr (V <= kWide) {
    b.accumulate = accumulate<S, S, V>;
    b.accumulate_packed = accumulate<S, Sum<S>, V>;
    b.accumulate_across = accumulate<S, S, V, true>;
  }
  return b;
}

#if defined(__AVX512F__)
constexpr int kBroadest = kBroad;
#else
constexpr int kBroadest = kWide;
#endif

template <class S>
constexpr Steps kSteps = {
    sizeof(Sum<S>),  blocking<S, kWide>(), blocking<S, kNarrow>(), blocking<S, kBroadest>(),
    transpose_in<S>, transpose_out<S>,     transpose_bits,         count_live,
    order_rows,      apply_mask<S>,
};

inline const Steps* steps_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat:
      return &kSteps<float>;
    case Dtype::kDouble:
      return &kSteps<double>;
    case Dtype::kBfloat16:
      return &kSteps<Bfloat16>;
    case Dtype::kHalf:
      return &kSteps<Half>;
  }
  return nullptr;
}

}  // namespace
}  // namespace dmt::sparse_linear
