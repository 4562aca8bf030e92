// The backward pass of threshold_ema on the CPU: one pass over the gradient and x; the loops are in backward_loops.h.
#include <optional>
#include <tuple>

#include "host.h"
#include "store.h"

namespace dmt {
namespace {

CallCounter backward_calls("threshold_ema_backward");

Columns information_columns(const Tensor& statistics, double upstream, int64_t rows, int64_t width, Float dtype) {
  Columns columns(dtype, words(width), kCoefficients);
  const int64_t padded = words(width) * 64;
  const double scale = upstream / static_cast<double>(std::max<int64_t>(rows * width, 1));
  const Numbers m(statistics);
  for (int64_t c = 0; c < width; ++c) {
    double out[kCoefficients];
    divergence_coefficients(m.get(c), m.get(width + c), m.get(2 * width + c), m.get(3 * width + c), scale, out);
    for (int s = 0; s < kCoefficients; ++s) columns.set(s * padded + c, out[s]);
  }
  return columns;
}

// d theta from the windowed sums per column.
Tensor theta_gradient(const double* pulled, const Columns& inverses, const Tensor& theta, double mu, int64_t width) {
  const Tensor wide = wide_theta(theta);
  const Tensor out = empty(theta.sizes().data(), theta.dim(), wide.scalar_type(), theta);
  const bool per_feature = theta.dim() == 1;
  const Numbers raw(wide), gradient(out);
  double total = 0;
  for (int64_t c = 0; c < width; ++c) {
    const double here = -15.0 / 16.0 * inverses.get(c) * pulled[c];
    if (per_feature) gradient.set(c, here * threshold_slope(raw.get(c), mu));
    total += here;
  }
  if (!per_feature) gradient.set(0, total * threshold_slope(raw.get(0), mu));
  return out.scalar_type() == theta.scalar_type() ? out : torch::stable::to(out, theta.scalar_type());
}

std::tuple<Tensor, Tensor> backward(std::optional<Tensor> grad, std::optional<Tensor> grad_information, const Tensor& x,
                                    const Tensor& theta, const Tensor& state, const Tensor& statistics) {
  backward_calls.add();
  check(x, theta, state);
  check_backward(grad ? &*grad : nullptr, grad_information ? &*grad_information : nullptr, x, statistics);
  const Float dtype = dtype_of(x);
  const Rows rows = as_rows(x);
  const Blocks blocks(rows.rows, rows.width, kMaxSummedBlocks);
  const int64_t width = x.size(x.dim() - 1), padded = words(width) * 64;
  const Tensor grad_x = empty(x.sizes().data(), x.dim(), x.scalar_type(), x);
  const double mu = Numbers(state).get(0);
  const Columns bounds = thresholds(theta, mu, dtype, width), inverses = bounds.inverse();
  std::optional<Columns> information;
  if (grad_information && statistics.size(1) > 0) {
    const Tensor fixed = as_contiguous(statistics);
    information = information_columns(fixed, Numbers(*grad_information).get(0), rows.rows, width, dtype);
  }
  const Tensor dense = grad ? as_contiguous(*grad) : x;
  const BackwardJob job{grad ? dense.const_data_ptr() : nullptr,
                        rows.data,
                        grad_x.mutable_data_ptr(),
                        bounds.data(),
                        inverses.data(),
                        information ? information->data() : nullptr,
                        rows.stride,
                        rows.width,
                        words(width),
                        goes_past(grad_x.numel() * element_size(dtype))};
  const Room pulled(blocks.count * padded);
  const Loops loop = loops(dtype);
  blocks.each([&](int64_t block, int64_t begin, int64_t end) {
    double* to = std::fill_n(pulled.data() + block * padded, padded, 0.0) - padded;
    const Room partial(padded);
    loop.backward_rows(job, begin, end, to, partial.data());
  });
  add_blocks(pulled.data(), blocks.count, padded);
  return {grad_x, theta_gradient(pulled.data(), inverses, theta, mu, width)};
}

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) { m.impl("threshold_ema_backward", TORCH_BOX(&dmt::backward)); }
