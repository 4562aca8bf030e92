// threshold_ema on the GPU: two launches forward (sum, then mask with all that follows), one and a memset backward.
// Nothing is read back and no grid depends on data, so calls can be captured in a CUDA graph.
#include <algorithm>
#include <optional>
#include <tuple>

#include "checks.h"
#include "kernels.cuh"

namespace dmt {
namespace {

using torch::stable::accelerator::DeviceGuard;

CallCounter forward_calls("threshold_ema"), backward_calls("threshold_ema_backward"), sums_calls("abs_sums");

template <typename F>
void dispatch(ScalarType dtype, const F& call) {
  switch (dtype) {
    case ScalarType::Float:
      return call(float{});
    case ScalarType::Double:
      return call(double{});
    case ScalarType::BFloat16:
      return call(__nv_bfloat16{});
    case ScalarType::Half:
      return call(__half{});
    default:
      STD_TORCH_CHECK(false, "threshold_ema expects x in float32, bfloat16, float16 or float64");
  }
}

int sum_blocks(const Rows& x) {
  return static_cast<int>(std::clamp<int64_t>(x.rows * x.width / (kThreads * 16), 1, kReduceBlocks));
}

// Strips by runs of rows: about 1024 blocks of at least 32 rows. An empty x still has its one block.
dim3 grid_of(const Rows& x, int64_t words) {
  const int64_t strips = std::max<int64_t>(words, 1);
  const int64_t runs = std::clamp<int64_t>(x.rows / 32, 1, std::max<int64_t>(1024 / strips, 1));
  return dim3(static_cast<unsigned>(strips), static_cast<unsigned>(runs));
}

// Floating-point bytes on the device, as doubles.
Tensor doubles(int64_t count, const Tensor& like) { return empty({count}, ScalarType::Double, like); }

Theta theta_of(const Tensor& wide) {
  return {wide.const_data_ptr(), wide.scalar_type() == ScalarType::Double, wide.dim() == 1};
}

Tensor wide_theta(const Tensor& theta) {
  const bool wide = theta.scalar_type() == ScalarType::Float || theta.scalar_type() == ScalarType::Double;
  return as_contiguous(wide ? theta : torch::stable::to(theta, ScalarType::Float));
}

template <typename T>
void launch_sum(const Rows& x, double* partial, unsigned* to_zero, int zeros, cudaStream_t stream) {
  sum_kernel<T><<<sum_blocks(x), kThreads, 0, stream>>>(static_cast<const T*>(x.data), x.rows, x.width, x.stride,
                                                        reinterpret_cast<double2*>(partial), to_zero, zeros);
  launch_check();
}

Tensor abs_sums(const Tensor& x) {
  sums_calls.add();
  STD_TORCH_CHECK(x.dim() >= 1, "abs_sums expects x [..., D], got a tensor without dimensions");
  const DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = stream_of(x);
  const Rows rows = as_rows(x);
  const Tensor out = doubles(2, x), partial = doubles(2 * kReduceBlocks, x);
  auto* sums = static_cast<double*>(partial.mutable_data_ptr());
  dispatch(x.scalar_type(), [&](auto zero) { launch_sum<decltype(zero)>(rows, sums, nullptr, 0, stream); });
  finish_sums_kernel<<<1, kThreads, 0, stream>>>(reinterpret_cast<const double2*>(sums), sum_blocks(rows),
                                                 static_cast<double*>(out.mutable_data_ptr()));
  launch_check();
  return out;
}

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Results forward(const Tensor& x, const Tensor& theta, const Tensor& state, std::optional<Tensor> sums, double alpha,
                bool update, bool information, bool store) {
  forward_calls.add();
  check(x, theta, state);
  if (sums) check_sums(*sums, x);
  const DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = stream_of(x);
  const Rows rows = as_rows(x);
  const int64_t width = x.size(x.dim() - 1), words = dmt::words(width);
  const dim3 grid = grid_of(rows, words);
  const ScalarType work = x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;

  const Tensor values = store ? empty(x.sizes().data(), x.dim(), x.scalar_type(), x) : empty({0}, x.scalar_type(), x);
  const Tensor bits = empty_with_width(x, words, ScalarType::Long);
  const Tensor live = empty({}, ScalarType::Float, x), divergence = empty({}, work, x);
  const Tensor next = empty({kStateSize}, ScalarType::Float, x);
  const Tensor statistics = empty({4, information ? width : 0}, work, x);
  const Tensor before = as_contiguous(state), wide = wide_theta(theta);

  // One allocation: sums of blocks, live count, tickets, sums of strips and of columns.
  const int64_t counters = 1 + (grid.x + 2) / 2, columns = information ? grid.y * kSums * words * kColumns + words : 0;
  const Tensor workspace = doubles(2 * kReduceBlocks + counters + columns, x);
  double* const partial = static_cast<double*>(workspace.mutable_data_ptr());
  double* const zeroed = partial + 2 * kReduceBlocks;
  const Tensor given = sums ? as_contiguous(*sums) : workspace;
  const bool reduce = update && !sums;
  if (!reduce) cuda_check(cudaMemsetAsync(zeroed, 0, static_cast<size_t>(counters) * sizeof(double), stream));

  dispatch(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if (reduce) {
      launch_sum<T>(rows, partial, reinterpret_cast<unsigned*>(zeroed), static_cast<int>(2 * counters), stream);
    }
    MaskArguments<T> a{};
    a.x = static_cast<const T*>(rows.data);
    a.theta = theta_of(wide);
    a.state = static_cast<const float*>(before.const_data_ptr());
    a.sums = update ? static_cast<const double2*>(given.const_data_ptr()) : nullptr;
    a.sum_blocks = reduce ? sum_blocks(rows) : 1;
    a.alpha = alpha;
    a.rows = rows.rows, a.width = width, a.stride = rows.stride, a.words = words;
    a.values = store ? static_cast<T*>(values.mutable_data_ptr()) : nullptr;
    a.bits = static_cast<unsigned long long*>(bits.mutable_data_ptr());
    a.live = static_cast<float*>(live.mutable_data_ptr());
    a.divergence = divergence.mutable_data_ptr();
    a.next = static_cast<float*>(next.mutable_data_ptr());
    a.statistics = information ? statistics.mutable_data_ptr() : nullptr;
    a.strip = zeroed + counters;
    a.partial = a.strip + words;
    a.counters = {reinterpret_cast<unsigned long long*>(zeroed), reinterpret_cast<unsigned*>(zeroed + 1)};
    if (information && words > 0) {
      mask_kernel<T, true><<<grid, kThreads, 0, stream>>>(a);
    } else {
      mask_kernel<T, false><<<grid, kThreads, 0, stream>>>(a);
    }
    launch_check();
  });
  return {values, bits, live, divergence, next, statistics};
}

std::tuple<Tensor, Tensor> backward(std::optional<Tensor> grad, std::optional<Tensor> grad_information, const Tensor& x,
                                    const Tensor& theta, const Tensor& state, const Tensor& statistics) {
  backward_calls.add();
  check(x, theta, state);
  check_backward(grad ? &*grad : nullptr, grad_information ? &*grad_information : nullptr, x, statistics);
  const DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = stream_of(x);
  const Rows rows = as_rows(x);
  const int64_t width = x.size(x.dim() - 1), words = dmt::words(width);
  const Tensor grad_x = empty(x.sizes().data(), x.dim(), x.scalar_type(), x);
  const Tensor wide = wide_theta(theta);
  const Tensor grad_theta = empty(theta.sizes().data(), theta.dim(), wide.scalar_type(), theta);
  const Tensor dense = grad ? as_contiguous(*grad) : x, fixed = as_contiguous(statistics);
  const ScalarType work = x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const bool information = grad_information && statistics.size(1) > 0;
  STD_TORCH_CHECK(!information || grad_information->scalar_type() == work,
                  "the gradient of the information term must be float32, or float64 as x");

  const dim3 grid = grid_of(rows, words);
  const int64_t counters = (grid.x + 2) / 2;
  const Tensor workspace = doubles(counters + words + grid.y * words * kColumns, x);
  double* const zeroed = static_cast<double*>(workspace.mutable_data_ptr());
  cuda_check(cudaMemsetAsync(zeroed, 0, static_cast<size_t>(counters) * sizeof(double), stream));

  dispatch(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    BackwardArguments<T> a{};
    a.grad = grad ? static_cast<const T*>(dense.const_data_ptr()) : nullptr;
    a.grad_information = information ? grad_information->const_data_ptr() : nullptr;
    a.x = static_cast<const T*>(rows.data);
    a.theta = theta_of(wide);
    a.state = static_cast<const float*>(state.const_data_ptr());
    a.statistics = fixed.const_data_ptr();
    a.rows = rows.rows, a.width = width, a.stride = rows.stride, a.words = words;
    a.grad_x = static_cast<T*>(grad_x.mutable_data_ptr());
    a.grad_theta = grad_theta.mutable_data_ptr();
    a.strip = zeroed + counters;
    a.partial = a.strip + words;
    a.tickets = reinterpret_cast<unsigned*>(zeroed);
    if (words == 0) {
      cuda_check(cudaMemsetAsync(a.grad_theta, 0, theta.dim() == 0 ? (a.theta.wide ? 8 : 4) : 0, stream));
    } else if (information) {
      backward_kernel<T, true><<<grid, kThreads, 0, stream>>>(a);
    } else {
      backward_kernel<T, false><<<grid, kThreads, 0, stream>>>(a);
    }
    launch_check();
  });
  const bool same = grad_theta.scalar_type() == theta.scalar_type();
  return {grad_x, same ? grad_theta : torch::stable::to(grad_theta, theta.scalar_type())};
}

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CUDA, m) {
  m.impl("abs_sums", TORCH_BOX(&dmt::abs_sums));
  m.impl("threshold_ema", TORCH_BOX(&dmt::forward));
  m.impl("threshold_ema_backward", TORCH_BOX(&dmt::backward));
}
