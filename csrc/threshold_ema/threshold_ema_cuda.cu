// threshold_ema on the GPU: one cooperative launch forward, one and a memset backward. Nothing is read back and no grid
// depends on data, so calls can be captured in a CUDA graph.
#include <algorithm>
#include <atomic>
#include <optional>
#include <tuple>

#include "../cuda_device.h"
#include "backward_kernel.cuh"
#include "checks.h"
#include "step_kernel.cuh"

namespace dmt {
namespace {

using torch::stable::accelerator::DeviceGuard;

CallCounter forward_calls("threshold_ema"), backward_calls("threshold_ema_backward"), sums_calls("abs_sums");
CallCounter live_calls("threshold_ema_backward_live");

constexpr int kSumBlocks = 512;
constexpr int kRounds = 2;  // of blocks, one after another, in the backward pass

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

// How many blocks of a kernel run at once: all that a cooperative launch may have.
template <auto kKernel>
int resident_blocks() {
  static std::atomic<int> known[kDevices];
  std::atomic<int>& blocks = known[device_place()];
  int found = blocks.load(std::memory_order_relaxed);
  if (found == 0) {
    cuda_check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&found, kKernel, kThreads, 0));
    found *= this_device().multiprocessors;
    blocks.store(found, std::memory_order_relaxed);
  }
  return found;
}

// Runs of at least kFewest packs a thread, for every block that has to be met or waited for costs time; and no more
// items than `blocks` where strips allow it.
constexpr int kFewest = 4;
template <typename T>
Cut cut_of(const Rows& x, int64_t blocks) {
  const int64_t strips = std::max<int64_t>(words(x.width), 1), most = std::max<int64_t>(blocks / strips, 1);
  return {x.rows, x.width, strips, std::clamp<int64_t>(x.rows / (kFewest * kRows<T>), 1, most)};
}

// x as one strip, whose rows follow one another in memory, where nothing asks for a column: each block then reads and
// writes one piece of memory.
Rows as_strip(const Rows& x, bool columns_matter) {
  if (columns_matter || !x.flat() || x.width % kColumns != 0 || x.width == 0) return x;
  return {x.held, x.data, x.rows * (x.width / kColumns), kColumns, kColumns};
}

// What is written and no longer in the caches when it is read again need not go through them.
bool streams(const Rows& x, int64_t element, int tensors) {
  return x.rows * x.width * element * tensors > this_device().cache;
}

Tensor doubles(int64_t count, const Tensor& like) { return empty({count}, ScalarType::Double, like); }

Theta theta_of(const Tensor& wide) {
  return {wide.const_data_ptr(), wide.scalar_type() == ScalarType::Double, wide.dim() == 1};
}

Tensor wide_theta(const Tensor& theta) {
  const bool wide = theta.scalar_type() == ScalarType::Float || theta.scalar_type() == ScalarType::Double;
  return as_contiguous(wide ? theta : torch::stable::to(theta, ScalarType::Float));
}

ScalarType work_of(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

__global__ void __launch_bounds__(kThreads) finish_sums_kernel(const double2* partial, int blocks, double* out) {
  const double2 total = total_of(partial, blocks);
  if (threadIdx.x == 0) {
    out[0] = total.x;
    out[1] = total.y;
  }
}

Tensor abs_sums(const Tensor& x) {
  sums_calls.add();
  STD_TORCH_CHECK(x.dim() >= 1, "abs_sums expects x [..., D], got a tensor without dimensions");
  const DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = stream_of(x);
  const Rows rows = as_rows(x);
  const int blocks = static_cast<int>(std::clamp<int64_t>(rows.rows * rows.width / (kThreads * 16), 1, kSumBlocks));
  const Tensor out = doubles(2, x), partial = doubles(2 * blocks, x);
  auto* sums = static_cast<double2*>(partial.mutable_data_ptr());
  dispatch(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    sum_kernel<T>
        <<<blocks, kThreads, 0, stream>>>(static_cast<const T*>(rows.data), rows.rows, rows.width, rows.stride, sums);
    launch_check();
  });
  finish_sums_kernel<<<1, kThreads, 0, stream>>>(sums, blocks, static_cast<double*>(out.mutable_data_ptr()));
  launch_check();
  return out;
}

// What was asked for, and what came of it. A tensor that nobody asked for is undefined, which Python sees as None.
struct Asked {
  double alpha;
  bool update, information, store, next, in_place;
};
struct Outcome {
  Tensor values, bits, live, divergence, next, statistics;
};

template <typename T, bool kInformation>
void launch_step(StepArguments<T> a, const Rows& x, const Tensor& like) {
  const int most = resident_blocks<step_kernel<T, kInformation>>();
  a.cut = cut_of<T>(x, most);
  a.stride = x.stride;
  const int64_t blocks = std::min<int64_t>(a.cut.items(), most), strips = a.cut.strips;
  const int64_t counters = 1 + (strips + 2) / 2;
  const int64_t columns = kInformation ? a.cut.runs * kSums * strips * kColumns + strips : 0;
  // One allocation: sums of blocks, live count, tickets, parts of strips, sums of columns.
  const Tensor workspace = doubles(2 * blocks + counters + columns, like);
  double* at = static_cast<double*>(workspace.mutable_data_ptr());
  a.block_sums = reinterpret_cast<double2*>(at);
  at += 2 * blocks;
  a.counters = {reinterpret_cast<unsigned long long*>(at), reinterpret_cast<unsigned*>(at + 1)};
  a.strip_parts = at + counters;
  a.partial = a.strip_parts + strips;
  a.streaming = streams(x, sizeof(T), 2);
  void* arguments[] = {&a};
  const auto* kernel = reinterpret_cast<const void*>(step_kernel<T, kInformation>);
  cuda_check(cudaLaunchCooperativeKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), arguments, 0,
                                         stream_of(like)));
}

Outcome run(const Tensor& x, const Tensor& theta, const Tensor& state, const Tensor* sums, const Asked& asked) {
  forward_calls.add();
  check(x, theta, state);
  if (sums) check_sums(*sums, x);
  const DeviceGuard guard(x.get_device_index());
  const Rows rows = as_rows(x);
  const int64_t width = x.size(x.dim() - 1);
  Outcome out;
  if (asked.store) out.values = empty(x.sizes().data(), x.dim(), x.scalar_type(), x);
  out.bits = empty_with_width(x, words(width), ScalarType::Long);
  out.live = empty({}, ScalarType::Float, x);
  if (asked.next) out.next = empty({kStateSize}, ScalarType::Float, x);
  if (asked.information) {
    out.divergence = empty({}, work_of(x), x);
    out.statistics = empty({4, width}, work_of(x), x);
  }
  const Tensor before = as_contiguous(state), wide = wide_theta(theta);
  std::optional<Tensor> given;
  if (sums) given = as_contiguous(*sums);
  dispatch(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    StepArguments<T> a{};
    a.x = static_cast<const T*>(rows.data);
    a.theta = theta_of(wide);
    a.state = static_cast<const float*>(before.const_data_ptr());
    a.update = asked.update;
    a.sums = given ? static_cast<const double*>(given->const_data_ptr()) : nullptr;
    a.alpha = asked.alpha;
    a.values = asked.store ? static_cast<T*>(out.values.mutable_data_ptr()) : nullptr;
    a.bits = static_cast<uint32_t*>(out.bits.mutable_data_ptr());
    a.live = static_cast<float*>(out.live.mutable_data_ptr());
    a.next = asked.next ? static_cast<float*>(out.next.mutable_data_ptr()) : nullptr;
    if (asked.in_place && asked.update) {
      a.moved = static_cast<float*>(state.mutable_data_ptr());
      a.moved_stride = state.stride(0);
    }
    if (asked.information) {
      a.divergence = out.divergence.mutable_data_ptr();
      a.statistics = out.statistics.mutable_data_ptr();
    }
    if (asked.information && width > 0) {
      launch_step<T, true>(a, rows, x);
    } else {
      launch_step<T, false>(a, as_strip(rows, a.theta.per_feature), x);
    }
  });
  return out;
}

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Results forward(const Tensor& x, const Tensor& theta, const Tensor& state, std::optional<Tensor> sums, double alpha,
                bool update, bool information, bool store) {
  Outcome out = run(x, theta, state, sums ? &*sums : nullptr, {alpha, update, information, store, true, false});
  if (!store) out.values = empty({0}, x.scalar_type(), x);
  if (!information) {
    out.divergence = torch::stable::new_zeros(x, {}, work_of(x));
    out.statistics = empty({4, 0}, work_of(x), x);
  }
  return {out.values, out.bits, out.live, out.divergence, out.next, out.statistics};
}

// The same with the new state in place of the old; `keep` asks for what the backward pass wants of it.
Results forward_in_place(const Tensor& x, const Tensor& theta, const Tensor& state, double alpha, bool update,
                         bool information, bool store, bool keep) {
  const Outcome out = run(x, theta, state, nullptr, {alpha, update, information, store, keep, true});
  return {out.values, out.bits, out.live, out.divergence, out.next, out.statistics};
}

template <typename T, bool kInformation>
void launch_backward(BackwardArguments<T> a, const Rows& x, const Tensor& like) {
  a.cut = cut_of<T>(x, kRounds * resident_blocks<backward_kernel<T, kInformation>>());
  a.stride = x.stride;
  a.streaming = streams(x, sizeof(T), 3);
  const int64_t strips = a.cut.strips, blocks = a.cut.items(), counters = (strips + 1) / 2;
  const Tensor workspace = doubles(counters + (a.theta.per_feature ? blocks * kColumns : blocks), like);
  a.tickets = static_cast<unsigned*>(workspace.mutable_data_ptr());
  a.partial = static_cast<double*>(workspace.mutable_data_ptr()) + counters;
  cuda_check(cudaMemsetAsync(a.tickets, 0, static_cast<size_t>(counters) * sizeof(double), stream_of(like)));
  backward_kernel<T, kInformation><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(like)>>>(a);
  launch_check();
}

struct Gradients {
  Tensor x, theta, values;
};

// only_live: the gradient counts where x is live; store: x masked is made besides.
Gradients differentiate(const Tensor* grad, const Tensor* grad_information, const Tensor& x, const Tensor& theta,
                        const Tensor& state, const Tensor& statistics, bool only_live, bool store) {
  check(x, theta, state);
  check_backward(grad, grad_information, x, statistics);
  const DeviceGuard guard(x.get_device_index());
  const Rows rows = as_rows(x);
  Gradients out;
  out.x = empty(x.sizes().data(), x.dim(), x.scalar_type(), x);
  if (store) out.values = empty(x.sizes().data(), x.dim(), x.scalar_type(), x);
  const Tensor wide = wide_theta(theta);
  out.theta = empty(theta.sizes().data(), theta.dim(), wide.scalar_type(), theta);
  const Tensor dense = grad ? as_contiguous(*grad) : x, fixed = as_contiguous(statistics);
  const Tensor before = as_contiguous(state);
  const bool information = grad_information && statistics.size(1) > 0;
  STD_TORCH_CHECK(!information || grad_information->scalar_type() == work_of(x),
                  "the gradient of the information term must be float32, or float64 as x");

  dispatch(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    BackwardArguments<T> a{};
    a.grad = grad ? static_cast<const T*>(dense.const_data_ptr()) : nullptr;
    a.grad_information = information ? grad_information->const_data_ptr() : nullptr;
    a.x = static_cast<const T*>(rows.data);
    a.theta = theta_of(wide);
    a.state = static_cast<const float*>(before.const_data_ptr());
    a.statistics = fixed.const_data_ptr();
    a.only_live = only_live;
    a.grad_x = static_cast<T*>(out.x.mutable_data_ptr());
    a.values = store ? static_cast<T*>(out.values.mutable_data_ptr()) : nullptr;
    a.grad_theta = out.theta.mutable_data_ptr();
    if (information) {
      launch_backward<T, true>(a, rows, x);
    } else {
      launch_backward<T, false>(a, as_strip(rows, a.theta.per_feature), x);
    }
  });
  if (out.theta.scalar_type() != theta.scalar_type()) out.theta = torch::stable::to(out.theta, theta.scalar_type());
  return out;
}

std::tuple<Tensor, Tensor> backward(std::optional<Tensor> grad, std::optional<Tensor> grad_information, const Tensor& x,
                                    const Tensor& theta, const Tensor& state, const Tensor& statistics) {
  backward_calls.add();
  const Gradients out = differentiate(grad ? &*grad : nullptr, grad_information ? &*grad_information : nullptr, x,
                                      theta, state, statistics, false, false);
  return {out.x, out.theta};
}

std::tuple<Tensor, Tensor, Tensor> backward_live(const Tensor& grad, std::optional<Tensor> grad_information,
                                                 const Tensor& x, const Tensor& theta, const Tensor& state,
                                                 const Tensor& statistics, bool store) {
  live_calls.add();
  const Gradients out =
      differentiate(&grad, grad_information ? &*grad_information : nullptr, x, theta, state, statistics, true, store);
  return {out.x, out.theta, store ? out.values : empty({0}, x.scalar_type(), x)};
}

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CUDA, m) {
  m.impl("abs_sums", TORCH_BOX(&dmt::abs_sums));
  m.impl("threshold_ema", TORCH_BOX(&dmt::forward));
  m.impl("threshold_ema_", TORCH_BOX(&dmt::forward_in_place));
  m.impl("threshold_ema_backward", TORCH_BOX(&dmt::backward));
  m.impl("threshold_ema_backward_live", TORCH_BOX(&dmt::backward_live));
}
