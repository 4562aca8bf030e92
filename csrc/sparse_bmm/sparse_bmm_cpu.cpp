// sparse_bmm on the CPU: y[i] = x[i] @ weight[i], where zeros of x cost nothing. No mask is asked for: x is looked at
// as it is read. Nothing is packed either, since a matrix serves few rows; the rows of it that meet a live element are
// read where they lie.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <algorithm>

#include "../common.h"
#include "../sparse_linear/choice.h"
#include "job.h"

namespace dmt::sparse_bmm {
namespace {

CallCounter calls("sparse_bmm"), dense_calls("sparse_bmm_dense");
constexpr int64_t kGrain = 1 << 16;  // multiplications that a thread takes at least

Steps steps(bool wide) {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return avx512_steps(wide);
  if (isa() == Isa::avx2) return avx2_steps(wide);
#endif
  return portable_steps(wide);
}

void check(const Tensor& x, const Tensor& weight) {
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double,
                  "sparse_bmm: expected float32 or float64 operands");
  STD_TORCH_CHECK(weight.scalar_type() == x.scalar_type() && weight.is_cpu() == x.is_cpu(),
                  "sparse_bmm: weight must have the dtype and the device of x");
  STD_TORCH_CHECK(x.dim() == 3 && weight.dim() == 3, "sparse_bmm: expected x [N, P, D] and weight [N, D, out], got ",
                  x.dim(), " and ", weight.dim(), " dimensions");
  STD_TORCH_CHECK(x.size(0) == weight.size(0) && x.size(2) == weight.size(1), "sparse_bmm: x [", x.size(0), ", ",
                  x.size(1), ", ", x.size(2), "] and weight [", weight.size(0), ", ", weight.size(1), ", ",
                  weight.size(2), "] do not fit: expected [N, P, D] and [N, D, out]");
}

// Whether the dense product is the faster one: where a row of weight does not fill a vector, always; else the more rows
// share a matrix, the more zeros it takes, and a single row takes none. Measured on one core of an Emerald Rapids.
// Elements are counted only where their number decides.
bool goes_dense(int64_t route, const Job& job, int64_t items, int64_t row_bytes, CountLive count_live) {
  if (route != sparse_linear::kAuto) return route == sparse_linear::kDense;
  if (row_bytes < kPadding) return true;
  const int64_t elements = items * job.rows * job.depth;
  if (job.rows == 1 || elements == 0) return false;
  const double live = static_cast<double>(count_live(job, items)) / static_cast<double>(elements);
  return 1 - live < std::min(0.67, 0.15 * static_cast<double>(job.rows - 1));
}

Tensor sparse_bmm(const Tensor& x_, const Tensor& weight, int64_t route) {
  calls.add();
  check(x_, weight);
  const Tensor x = x_.stride(2) == 1 || x_.stride(1) == 1 ? x_ : torch::stable::contiguous(x_);
  const int64_t items = x.size(0), rows = x.size(1), depth = x.size(2), outputs = weight.size(2);
  const Tensor y = empty({items, rows, outputs}, x.scalar_type(), x);
  if (items * rows * outputs == 0) return y;
  const bool wide = x.scalar_type() == ScalarType::Double;
  const int64_t bytes = wide ? 8 : 4;
  const Steps with = steps(wide);
  Job job{};
  job.x = x.data_ptr();
  job.x_item = x.stride(0), job.x_row = x.stride(1), job.x_column = x.stride(2);
  job.weight = weight.data_ptr();
  job.weight_item = weight.stride(0), job.weight_row = weight.stride(1), job.weight_column = weight.stride(2);
  job.y = y.data_ptr();
  job.rows = rows, job.depth = depth, job.outputs = outputs;
  if (goes_dense(route, job, items, outputs * bytes, with.count_live)) {
    dense_calls.add();
    TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_bmm_out(y.get(), x.get(), weight.get()));
    return y;
  }
  // Else weight is copied: what lies behind a row is not ours to read.
  const bool whole = outputs % with.lanes == 0 && job.weight_column == 1;
  const int64_t padded = whole ? 0 : depth * ((outputs * bytes + kPadding - 1) / kPadding) * kPadding;
  const int64_t each = std::max<int64_t>(rows * depth * outputs, 1);
  torch::stable::parallel_for(0, items, std::max<int64_t>(kGrain / each, 1), [&](int64_t begin, int64_t end) {
    const Tensor space = empty({padded + rows * kWidest + kPadding}, ScalarType::Byte, x);
    Job mine = job;
    mine.padded = whole ? nullptr : space.data_ptr();
    mine.sums = static_cast<char*>(space.data_ptr()) + padded;
    with.run(mine, begin, end);
  });
  return y;
}

}  // namespace
}  // namespace dmt::sparse_bmm

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) { m.impl("sparse_bmm", TORCH_BOX(&dmt::sparse_bmm::sparse_bmm)); }
