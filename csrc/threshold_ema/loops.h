// The loops of threshold_ema, compiled once per instruction set (see simd.h).
#pragma once

#include "backward_loops.h"
#include "divergence_loops.h"
#include "sum_loops.h"
#include "summed_mask_loops.h"

namespace dmt {
namespace DMT_ISA {
namespace {

template <typename T>
constexpr Loops loops_of() {
  return {abs_sums<T>, mask_rows<T>, mask_and_sum<T>, guess_rows<T>, mend<T>, finish_divergence<T>, backward_rows<T>};
}

}  // namespace

Loops loops(Float dtype) {
  switch (dtype) {
    case Float::f64:
      return loops_of<double>();
    case Float::bf16:
      return loops_of<BFloat16>();
    case Float::f16:
      return loops_of<Float16>();
    default:
      return loops_of<float>();
  }
}

}  // namespace DMT_ISA
}  // namespace dmt
