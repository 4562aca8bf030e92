// The steps of steps.h, for the instruction set this translation unit is compiled for.
#pragma once

#include "sample.h"

namespace dmt::sparse_linear {
namespace {

template <class S, int V>
constexpr Blocking kBlocking = {
    kBlock<Sum<S>, V>,        pack_transposed<S, V>,     pack_straight<S, V>, accumulate<S, S, V>,
    accumulate<S, Sum<S>, V>, accumulate<S, S, V, true>, grad_input<S, V>,
};

template <class S>
constexpr Steps kSteps = {
    sizeof(Sum<S>), kBlocking<S, kWide>, kBlocking<S, kNarrow>, transpose_in<S>, transpose_out<S>,
    transpose_bits, count_live,          apply_mask<S>,
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
