// The dense way to the three products: x, or dX, masked, and a library's product.
#pragma once

#include <algorithm>
#include <optional>

#include "../amx/product.h"
#include "../dense_product.h"
#include "choice.h"
#include "matrix.h"
#include "steps.h"

namespace dmt::sparse_linear {
namespace {

CallCounter dense_calls("sparse_linear_dense");
CallCounter tile_calls("sparse_linear_on_tiles");

struct Masking {
  const Steps& steps;
  const Matrix& bits;
  ScalarType type;
  double live;
  bool gaps;      // whole blocks may be dead
  int64_t route;  // that was asked for

  // Rows [begin, begin + rows) of x to `to`, where they lie one behind the other; `to` may be where they are.
  void apply(const Matrix& x, int64_t begin, int64_t rows, const Tensor& to) const {
    const int64_t bytes = to.element_size();
    char* target = static_cast<char*>(to.data_ptr());
    torch::stable::parallel_for(0, rows, 64, [&](int64_t first, int64_t last) {
      const int64_t row = begin + first;
      steps.apply_mask(x.at(row, 0, bytes), x.stride, bits.words() + row * bits.stride, bits.stride, last - first,
                       x.columns, target + first * x.columns * bytes, x.columns);
    });
  }

  Dtype dtype() const { return dtype_of(type); }

  // If it masks anything.
  amx::Mask for_tiles() const { return amx::mask_of(live == 1.0 ? nullptr : &bits, gaps); }

  // x with what is dead zeroed; x itself where nothing is.
  Tensor masked(const Matrix& x) const {
    if (live == 1.0) return rows_of(x, 0, x.rows);
    const Tensor to = empty({x.rows, x.columns}, type, x.owner);
    apply(x, 0, x.rows, to);
    return to;
  }
};

// y [M, N].
Tensor dense_forward(const Masking& mask, const Matrix& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  dense_calls.add();
  if (on_tiles(Product::kForward, mask.dtype(), x.rows, x.columns, weight.size(0), mask.route)) {
    tile_calls.add();
    if (const auto made = amx::forward(x, mask.for_tiles(), weight, bias)) return *made;
  }
  return dense_product(mask.masked(x), transposed(weight), bias);
}

// dX [M, K].
Tensor dense_grad_input(const Masking& mask, const Matrix& grad, const Tensor& weight) {
  dense_calls.add();
  if (on_tiles(Product::kGradInput, mask.dtype(), grad.rows, weight.size(1), grad.columns, mask.route)) {
    tile_calls.add();
    if (const auto made = amx::grad_input(grad, mask.for_tiles(), weight)) return *made;
  }
  const Tensor out = dense_product(rows_of(grad, 0, grad.rows), weight, std::nullopt);
  if (mask.live != 1.0) mask.apply(matrix(out), 0, grad.rows, out);
  return out;
}

// Rows of x that dW takes at a time: half a megabyte, whatever the threads, so that what was masked is still in a cache
// when the product reads it. All at once where nothing is masked; where a 16-bit result would be rounded band by band;
// and where the product is oneDNN's, which makes its result anew each time.
int64_t band_rows(const Masking& mask, const Matrix& x) {
  const bool sums = mask.type == ScalarType::Double || (mask.type == ScalarType::Float && intel());
  if (mask.live == 1.0 || !sums) return x.rows;
  const int64_t bytes = std::max<int64_t>(x.columns * x.owner.element_size(), 1);
  const int64_t band = std::max<int64_t>(128, (int64_t{1} << 19) / bytes / 64 * 64);
  return x.rows < band + band / 2 ? x.rows : band;
}

// dW [N, K]: a band of rows adds to what the ones before it left.
Tensor dense_grad_weight(const Masking& mask, const Matrix& grad, const Matrix& x) {
  dense_calls.add();
  if (on_tiles(Product::kGradWeight, mask.dtype(), x.rows, x.columns, grad.columns, mask.route)) {
    tile_calls.add();
    if (const auto made = amx::grad_weight(grad, x, mask.for_tiles())) return *made;
  }
  const int64_t band = band_rows(mask, x);
  if (band == x.rows) return dense_product(transposed(rows_of(grad, 0, x.rows)), mask.masked(x), std::nullopt);
  const Tensor out = empty({grad.columns, x.columns}, mask.type, x.owner);
  const Matrix space = matrix(empty({band, x.columns}, mask.type, x.owner));
  for (int64_t row = 0; row < x.rows; row += band) {
    const int64_t rows = std::min(band, x.rows - row);
    const Tensor masked = rows_of(space, 0, rows);
    mask.apply(x, row, rows, masked);
    dense_product_into(out, transposed(rows_of(grad, row, rows)), masked,
                       row ? std::optional<Tensor>(out) : std::nullopt);
  }
  return out;
}

}  // namespace
}  // namespace dmt::sparse_linear
