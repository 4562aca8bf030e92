// The sparse-gradient matrix product on a GPU: one launch each for y and dX, two for dW where its sum is cut in parts.
// No choice here reads the device, and no memory is kept between calls: safe under CUDA graphs. The kernels of this
// file are made for small products, where launches count; Hopper has its own in 16 bits (../hopper); the rest goes to
// the vendor's library, or by structure to Triton.
#include <algorithm>
#include <optional>
#include <vector>

#include "../cuda_device.h"
#include "../hopper/product.h"
#include "checks.h"
#include "tile_product.cuh"

namespace dmt::sparse_linear {
namespace {

CallCounter forward_calls("sparse_linear");
CallCounter grad_input_calls("sparse_linear_grad_input");
CallCounter grad_weight_calls("sparse_linear_grad_weight");
CallCounter dense_calls("sparse_linear_dense"), hopper_calls("sparse_linear_hopper");

enum Route : int64_t { kAuto = 0, kDense = 1, kSparse = 2 };
constexpr int64_t kElement = 0, kTiles = 3;  // dmt_kernels/structure.py
constexpr int64_t kBlocksWanted = 256;       // fewer tiles than this leave a large GPU idle
constexpr int64_t kPartRows = 256;           // of the sum of dW, at least

// Elementwise masks save no multiplications on tensor cores: a fused product of this file is worth the launch that it
// saves, and no more. On an H200, bfloat16, 1024 x 256 x 256, dW takes 24 us, and the vendor's product of a masked x 7;
// but called one by one these take the host longer. With 4096 x 512 x 512 it takes 77 us, and mask and product 18. In
// float32 they win at once.
constexpr int64_t kNarrow = 512, kSmall = int64_t{1} << 27;

bool goes_dense(int64_t route, int64_t structure, ScalarType type, int64_t rows, int64_t columns, int64_t outputs) {
  if (route != kAuto) return route == kDense;
  // By structure this file's products pass over dead tiles, which on Hopper is behind the vendor's.
  if (structure != kElement) return hopper::is_here();
  return type == ScalarType::Float || std::max(columns, outputs) > kNarrow || rows * columns * outputs >= kSmall;
}

// Live share of x below which gathering beats multiplying everything. float32 has no tensor cores to beat; those of
// sm_89 have half the rate of an sm_80's at float32 sums, and its ordinary arithmetic twice.
float gather_share(ScalarType type) {
  if (type == ScalarType::Float) return 0.2f;
  return this_device().major == 8 && this_device().minor == 9 ? 0.05f : 0.0f;
}

// ---- operands ----

struct Matrix {
  Tensor owner;
  int64_t rows, columns, stride;
};

Matrix matrix(const Tensor& t) {
  const int64_t columns = t.size(t.dim() - 1);
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < t.dim(); ++d) rows *= t.size(d);
  if (t.dim() == 2 && (t.stride(1) == 1 || columns <= 1)) return {t, rows, columns, t.stride(0)};
  return {torch::stable::contiguous(t), rows, columns, columns};
}

template <class T>
Plain<T> plain(const Matrix& m) {
  const void* data = m.owner.data_ptr();
  const bool aligned = reinterpret_cast<uintptr_t>(data) % 16 == 0 && m.stride * sizeof(T) % 16 == 0;
  return {static_cast<const T*>(data), m.stride, m.rows, m.columns, aligned};
}

Mask mask_of(const Matrix& bits) { return {static_cast<const uint32_t*>(bits.owner.data_ptr()), bits.stride * 2}; }

// ---- results ----

template <class T>
struct WriteOutput {
  T* y;
  const T* bias;
  int64_t stride;
  __device__ void write(int64_t i, int64_t j, float v) const {
    y[i * stride + j] = narrow<T>(bias ? v + widen(bias[j]) : v);
  }
};

template <class T>
struct WriteWhereLive {
  T* to;
  Mask mask;
  int64_t stride;
  __device__ void write(int64_t i, int64_t j, float v) const {
    to[i * stride + j] = mask.at(i, j) ? narrow<T>(v) : T(0.0f);
  }
};

template <class U>
struct WritePart {
  U* parts;
  int64_t stride, size;
  __device__ void write(int64_t i, int64_t j, float v) const {
    parts[blockIdx.z * size + i * stride + j] = narrow<U>(v);
  }
};

// In order of the parts, so that the result is the same every time.
template <class T>
__global__ void add_parts(const float* parts, int64_t count, int64_t size, T* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size) return;
  float sum = 0;
  for (int64_t p = 0; p < count; ++p) sum += parts[p * size + i];
  out[i] = narrow<T>(sum);
}

// A thread takes a pack of neighbours in a row; `from` and `to` may be the same.
template <class T>
__global__ void mask_kernel(Masked<T> from, T* to, int64_t packs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, columns = from.values.columns;
  const int64_t row = i / packs, column = i % packs * kPack<T>;
  if (row >= from.values.rows) return;
  alignas(16) T values[kPack<T>];
  from.load(row, column, values);
  T* const place = to + row * columns + column;
  if (columns % kPack<T> == 0) {
    *reinterpret_cast<int4*>(place) = *reinterpret_cast<const int4*>(values);
    return;
  }
  for (int k = 0; k < kPack<T> && column + k < columns; ++k) place[k] = values[k];
}

// ---- launches ----

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// `f` with a value of the operands' type.
template <class F>
void with_type(ScalarType type, const F& f) {
  if (type == ScalarType::Float) return f(float{});
  if (type == ScalarType::Half) return f(__half{});
  f(__nv_bfloat16{});
}

template <class T, class LiveIfStructured, class Left, class Right, class Gather, class Writer>
void launch(int64_t structure, const LiveSquare& square, const Left& left, const Right& right, const Gather& gather,
            const Writer& writer, int64_t height, int64_t width, int64_t depth, int64_t parts, int64_t each,
            cudaStream_t stream) {
  const int64_t down = ceil_div(height, kTile), across = ceil_div(width, kTile);
  STD_TORCH_CHECK(down <= INT32_MAX && across <= 65535, "sparse_linear: a result of ", height, " x ", width,
                  " is too large for the GPU kernels");
  const dim3 grid(static_cast<unsigned>(down), static_cast<unsigned>(across), static_cast<unsigned>(parts));
  if (structure == kElement)
    product<T><<<grid, kThreads, 0, stream>>>(left, right, AlwaysLive{}, gather, writer, height, width, depth, each);
  else
    product<T><<<grid, kThreads, 0, stream>>>(left, right, LiveIfStructured{square}, NeverGather{}, writer, height,
                                              width, depth, each);
  launch_check();
}

// x masked, in `to`, which has its size and may be x itself.
void mask_into(const Matrix& x, const Matrix& bits, const Tensor& to) {
  if (x.rows * x.columns == 0) return;
  with_type(x.owner.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const int64_t packs = ceil_div(x.columns, kPack<T>);
    mask_kernel<T><<<static_cast<unsigned>(ceil_div(x.rows * packs, 256)), 256, 0, stream_of(x.owner)>>>(
        {plain<T>(x), mask_of(bits)}, static_cast<T*>(to.data_ptr()), packs);
    launch_check();
  });
}

Tensor masked_copy(const Matrix& x, const Matrix& bits) {
  const Tensor out = empty({x.rows, x.columns}, x.owner.scalar_type(), x.owner);
  mask_into(x, bits, out);
  return out;
}

Tensor dense_product(const Tensor& left, const Tensor& right, const std::optional<Tensor>& bias) {
  dense_calls.add();
  using torch::stable::detail::from;
  // The form with `out`, which autocast leaves alone.
  StableIValue stack[4] = {from(left), from(right), from(bias),
                           from(empty({left.size(0), right.size(0)}, left.scalar_type(), left))};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::linear", "out", stack, TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

std::vector<int64_t> with_width(const Tensor& t, int64_t width) {
  std::vector<int64_t> sizes(t.sizes().begin(), t.sizes().end());
  sizes.back() = width;
  return sizes;
}

Tensor flat(const Tensor& t, const Matrix& m) { return torch::stable::reshape(t, {m.rows, m.columns}); }

// ---- Hopper ----

hopper::Matrix view(const Matrix& m) { return {m.owner.data_ptr(), m.rows, m.columns, m.stride}; }

// The left matrix by the weight, with the mask on the left (y) or on the result (dX: `input`).
hopper::Job hopper_job(const Matrix& left, const Matrix& weight, const std::optional<Tensor>& bias, bool input,
                       int64_t structure) {
  return {left.owner.scalar_type(),          view(left), view(weight),       nullptr, nullptr,
          bias ? bias->data_ptr() : nullptr, input,      structure == kTiles};
}

// `like` but for its width, which is the job's.
Tensor on_hopper(hopper::Job job, const Tensor& bits, const Tensor& like) {
  hopper_calls.add();
  const Tensor words = as_contiguous(bits), out = empty_with_width(like, job.results(), job.type);
  job.bits = static_cast<const int64_t*>(words.data_ptr());
  job.out = out.data_ptr();
  hopper::run(job, out);
  return out;
}

// ---- operators ----

Tensor forward(const Tensor& x, const Tensor& bits, const Tensor& weight, const std::optional<Tensor>& bias,
               int64_t structure, int64_t route) {
  forward_calls.add();
  check_forward(x, bits, weight, bias ? &*bias : nullptr);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Matrix xm = matrix(x), bm = matrix(bits), wm = matrix(weight);
  std::optional<Tensor> b;
  if (bias) b = as_contiguous(*bias);
  const hopper::Job job = hopper_job(xm, wm, b, false, structure);
  if (route != kDense && hopper::takes(job)) return on_hopper(job, bits, x);
  if (goes_dense(route, structure, x.scalar_type(), xm.rows, xm.columns, wm.rows))
    return torch::stable::reshape(dense_product(masked_copy(xm, bm), weight, bias), with_width(x, wm.rows));
  const Tensor y = empty_with_width(x, wm.rows, x.scalar_type());
  if (y.numel() == 0) return y;
  with_type(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const Mask mask = mask_of(bm);
    launch<T, LeftIsMasked>(
        structure, {mask, xm.rows, xm.columns}, Masked<T>{plain<T>(xm), mask}, Transposed<Plain<T>>{plain<T>(wm)},
        GatherIfFew{mask, xm.rows, xm.columns, gather_share(x.scalar_type())},
        WriteOutput<T>{static_cast<T*>(y.data_ptr()), b ? static_cast<const T*>(b->data_ptr()) : nullptr, wm.rows},
        xm.rows, wm.rows, xm.columns, 1, ceil_div(xm.columns, kDepth) * kDepth, stream_of(x));
  });
  return y;
}

Tensor grad_input(const Tensor& grad, const Tensor& bits, const Tensor& weight, int64_t structure, int64_t route) {
  grad_input_calls.add();
  check_grad_input(grad, bits, weight);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const Matrix gm = matrix(grad), bm = matrix(bits), wm = matrix(weight);
  const int64_t columns = wm.columns, outputs = wm.rows;
  const hopper::Job job = hopper_job(gm, wm, std::nullopt, true, structure);
  if (route != kDense && hopper::takes(job)) return on_hopper(job, bits, grad);
  if (goes_dense(route, structure, grad.scalar_type(), gm.rows, columns, outputs)) {
    const Tensor full = dense_product(flat(grad, gm), torch::stable::transpose(weight, 0, 1), std::nullopt);
    mask_into(matrix(full), bm, full);
    return torch::stable::reshape(full, with_width(grad, columns));
  }
  const Tensor out = empty_with_width(grad, columns, grad.scalar_type());
  if (out.numel() == 0) return out;
  with_type(grad.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const Mask mask = mask_of(bm);
    launch<T, ResultIsMasked>(structure, {mask, gm.rows, columns}, plain<T>(gm), plain<T>(wm), NeverGather{},
                              WriteWhereLive<T>{static_cast<T*>(out.data_ptr()), mask, columns}, gm.rows, columns,
                              outputs, 1, ceil_div(outputs, kDepth) * kDepth, stream_of(grad));
  });
  return out;
}

Tensor grad_weight(const Tensor& grad, const Tensor& x, const Tensor& bits, int64_t structure, int64_t route) {
  grad_weight_calls.add();
  check_grad_weight(grad, x, bits);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Matrix gm = matrix(grad), xm = matrix(x), bm = matrix(bits);
  const int64_t rows = xm.rows, columns = xm.columns, outputs = gm.columns, size = outputs * columns;
  if (rows == 0 || size == 0) return torch::stable::new_zeros(x, {outputs, columns});
  if (goes_dense(route, structure, x.scalar_type(), rows, columns, outputs))
    return dense_product(torch::stable::transpose(flat(grad, gm), 0, 1),
                         torch::stable::transpose(masked_copy(xm, bm), 0, 1), std::nullopt);
  const Tensor out = empty({outputs, columns}, x.scalar_type(), x);
  const int64_t tiles = ceil_div(outputs, kTile) * ceil_div(columns, kTile);
  const int64_t wanted = std::max<int64_t>(1, std::min(kBlocksWanted / tiles, rows / kPartRows));
  const int64_t each = ceil_div(ceil_div(rows, wanted), kDepth) * kDepth, parts = ceil_div(rows, each);
  with_type(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const Mask mask = mask_of(bm);
    const auto run = [&](auto* to) {
      using U = std::remove_pointer_t<decltype(to)>;
      launch<T, RightIsMasked>(structure, {mask, rows, columns}, Transposed<Plain<T>>{plain<T>(gm)},
                               Masked<T>{plain<T>(xm), mask}, NeverGather{}, WritePart<U>{to, columns, size}, outputs,
                               columns, rows, parts, each, stream_of(x));
    };
    T* to = static_cast<T*>(out.data_ptr());
    if (parts == 1) return run(to);
    const Tensor sums = empty({parts * size}, ScalarType::Float, x);
    run(static_cast<float*>(sums.data_ptr()));
    add_parts<T><<<static_cast<unsigned>(ceil_div(size, 256)), 256, 0, stream_of(x)>>>(
        static_cast<const float*>(sums.data_ptr()), parts, size, to);
    launch_check();
  });
  return out;
}

}  // namespace
}  // namespace dmt::sparse_linear

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CUDA, m) {
  m.impl("sparse_linear", TORCH_BOX(&dmt::sparse_linear::forward));
  m.impl("sparse_linear_grad_input", TORCH_BOX(&dmt::sparse_linear::grad_input));
  m.impl("sparse_linear_grad_weight", TORCH_BOX(&dmt::sparse_linear::grad_weight));
}
