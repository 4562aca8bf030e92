// The sparse-gradient matrix product on the CPU: checks, the choice between sparse and dense, threads.
//
//   y = where(mask, x, 0) W^T + b      dX = where(mask, dY W, 0)      dW = dY^T where(mask, x, 0)
//
// y and dW are sums over live elements (x[m, k] times a packed row of weights or of dY), dX samples its products at
// live elements. Each output is summed by one thread in an order that does not depend on how many there are.
#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "dense_route.h"
#include "grad_input.h"
#include "grad_weight.h"

namespace dmt::sparse_linear {
namespace {

CallCounter forward_calls("sparse_linear");
CallCounter grad_input_calls("sparse_linear_grad_input");
CallCounter grad_weight_calls("sparse_linear_grad_weight");
CallCounter backward_calls("sparse_linear_backward");

constexpr int64_t kElement = 0;  // structure: dead elements lie anywhere; else, perhaps, together

const Steps& steps_for(ScalarType type) {
  const Dtype dtype = dtype_of(type);
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return *avx512_steps(dtype);
  if (isa() == Isa::avx2) return *avx2_steps(dtype);
#endif
  return *portable_steps(dtype);
}

double live_share(const Steps& steps, const Matrix& bits, int64_t columns) {
  const int64_t all = bits.rows * columns;
  if (all == 0) return 0.0;
  return static_cast<double>(steps.count_live(bits.words(), bits.stride, bits.rows, columns)) /
         static_cast<double>(all);
}

std::vector<int64_t> with_width(const Tensor& t, int64_t width) {
  std::vector<int64_t> sizes(t.sizes().begin(), t.sizes().end());
  sizes.back() = width;
  return sizes;
}

Tensor forward(Tensor x, Tensor bits, Tensor weight, std::optional<Tensor> bias, int64_t structure, int64_t route) {
  forward_calls.add();
  check_forward(x, bits, weight, bias ? &*bias : nullptr);
  const ScalarType type = x.scalar_type();
  const Steps& steps = steps_for(type);
  const Matrix xm = matrix(x), bm = matrix(bits), wm = matrix(weight);
  const double live = live_share(steps, bm, xm.columns);
  if (goes_dense(route, Product::kForward, dtype_of(type), xm.rows, xm.columns, wm.rows, live)) {
    const Tensor y = dense_forward({steps, bm, type, live, structure != kElement, route}, xm, weight, bias);
    if (x.dim() == 2) return y;
    return torch::stable::reshape(y, with_width(x, wm.rows));
  }
  Tensor y = empty_with_width(x, wm.rows, type);
  Matrix ym{y, xm.rows, wm.rows, wm.rows, static_cast<char*>(y.data_ptr())};
  const std::optional<Tensor> b = bias ? std::optional<Tensor>(as_contiguous(*bias)) : std::nullopt;
  forward_tiles(steps, xm, bm, wm, b ? b->data_ptr() : nullptr, live, ym);
  return y;
}

// dX, shaped as `like` but for its width. `live` of the elements are live.
Tensor grad_input_of(const Matrix& grad, const Matrix& bits, const Tensor& weight, double live, int64_t structure,
                     int64_t route, const Tensor& like) {
  const ScalarType type = weight.scalar_type();
  const Steps& steps = steps_for(type);
  const int64_t columns = weight.size(1), outputs = weight.size(0);
  if (outputs == 0) return torch::stable::new_zeros(like, with_width(like, columns));
  if (goes_dense(route, Product::kGradInput, dtype_of(type), grad.rows, columns, outputs, live)) {
    const Tensor full = dense_grad_input({steps, bits, type, live, structure != kElement, route}, grad, weight);
    return like.dim() == 2 ? full : torch::stable::reshape(full, with_width(like, columns));
  }
  Tensor out = empty_with_width(like, columns, type);
  const Matrix om{out, grad.rows, columns, columns, static_cast<char*>(out.data_ptr())};
  grad_input_tiles(steps, grad, bits, matrix(weight), live, om);
  return out;
}

// dW.
Tensor grad_weight_of(const Matrix& grad, const Matrix& x, const Matrix& bits, double live, int64_t structure,
                      int64_t route) {
  const ScalarType type = x.owner.scalar_type();
  const Steps& steps = steps_for(type);
  if (x.rows == 0) return torch::stable::new_zeros(x.owner, {grad.columns, x.columns});
  if (goes_dense(route, Product::kGradWeight, dtype_of(type), x.rows, x.columns, grad.columns, live))
    return dense_grad_weight({steps, bits, type, live, structure != kElement, route}, grad, x);
  Tensor out = empty({grad.columns, x.columns}, type, x.owner);
  const Matrix om{out, grad.columns, x.columns, x.columns, static_cast<char*>(out.data_ptr())};
  grad_weight_tiles(steps, grad, x, bits, live, om);
  return out;
}

Tensor grad_input(Tensor grad, Tensor bits, Tensor weight, int64_t structure, int64_t route) {
  grad_input_calls.add();
  check_grad_input(grad, bits, weight);
  const Matrix bm = matrix(bits);
  const double live = live_share(steps_for(grad.scalar_type()), bm, weight.size(1));
  return grad_input_of(matrix(grad), bm, weight, live, structure, route, grad);
}

Tensor grad_weight(Tensor grad, Tensor x, Tensor bits, int64_t structure, int64_t route) {
  grad_weight_calls.add();
  check_grad_weight(grad, x, bits);
  const Matrix xm = matrix(x), bm = matrix(bits);
  return grad_weight_of(matrix(grad), xm, bm, live_share(steps_for(x.scalar_type()), bm, xm.columns), structure, route);
}

// Both in one call, which costs as much as a tenth of a small product. dW goes first: the other way round, 64 x 256 was
// measured to take 4 % longer.
std::tuple<Tensor, Tensor> backward(Tensor grad, Tensor x, Tensor bits, Tensor weight, int64_t structure,
                                    int64_t route) {
  backward_calls.add();
  check_grad_input(grad, bits, weight);
  check_grad_weight(grad, x, bits);
  check_width(x, weight);
  const Matrix gm = matrix(grad), xm = matrix(x), bm = matrix(bits);
  const double live = live_share(steps_for(x.scalar_type()), bm, xm.columns);
  const Tensor grad_weight = grad_weight_of(gm, xm, bm, live, structure, route);
  return {grad_input_of(gm, bm, weight, live, structure, route, grad), grad_weight};
}

}  // namespace
}  // namespace dmt::sparse_linear

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) {
  m.impl("sparse_linear", TORCH_BOX(&dmt::sparse_linear::forward));
  m.impl("sparse_linear_grad_input", TORCH_BOX(&dmt::sparse_linear::grad_input));
  m.impl("sparse_linear_grad_weight", TORCH_BOX(&dmt::sparse_linear::grad_weight));
  m.impl("sparse_linear_backward", TORCH_BOX(&dmt::sparse_linear::backward));
}
