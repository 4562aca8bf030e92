// The matrix product under a structured mask on the CPU: what is live is gathered into smaller dense products, whose
// results are scattered.
//
//   y = where(mask, x, 0) W^T + b      dX = where(mask, dY W, 0)      dW = dY^T where(mask, x, 0)
//
// A mask without the structure it is said to have only makes the parts larger: dead elements in them are masked as they
// are gathered or scattered.
#include <cstring>
#include <optional>
#include <string>

#include "../amx/product.h"
#include "../dense_product.h"
#include "../sparse_linear/checks.h"
#include "../sparse_linear/choice.h"
#include "plan.h"

namespace dmt::structured_linear {
namespace {

using sparse_linear::check_forward;
using sparse_linear::check_grad_input;
using sparse_linear::check_grad_weight;
using sparse_linear::dtype_of;
using sparse_linear::kAuto;
using sparse_linear::kDense;
using sparse_linear::Product;

CallCounter forward_calls("structured_linear");
CallCounter grad_input_calls("structured_linear_grad_input");
CallCounter grad_weight_calls("structured_linear_grad_weight");
CallCounter multiplications("structured_linear_multiplications");  // that the dense products were asked for

enum Structure : int64_t { kElement = 0, kColumn = 1, kRow = 2, kTiles = 3 };
constexpr int64_t kGrain = 1 << 15;  // elements that a thread copies at least

// [rows][columns] with unit stride along columns; `flat` is the tensor of two dimensions.
struct Matrix {
  Tensor flat;
  int64_t rows, columns, stride, bytes;
  char* data;
  char* at(int64_t row, int64_t column = 0) const { return data + (row * stride + column) * bytes; }
};

Matrix matrix(const Tensor& t) {
  const int64_t columns = t.size(t.dim() - 1);
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < t.dim(); ++d) rows *= t.size(d);
  const bool plain = t.dim() == 2 && (t.stride(1) == 1 || columns <= 1);
  const Tensor dense = plain ? t : as_contiguous(t);
  const Tensor flat = dense.dim() == 2 ? dense : torch::stable::reshape(dense, {rows, columns});
  return {flat,
          rows,
          columns,
          plain ? t.stride(0) : columns,
          static_cast<int64_t>(t.element_size()),
          static_cast<char*>(dense.data_ptr())};
}

Bits bits_of(const Matrix& bits, int64_t columns) {
  return {reinterpret_cast<const uint64_t*>(bits.data), bits.stride, bits.rows, columns};
}

Plan plan_for(int64_t structure, const Bits& bits, bool by_columns) {
  if (bits.columns == 0) return {};
  if (structure == kColumn) return column_plan(bits);
  if (structure == kRow) return row_plan(bits);
  return tile_plan(bits, by_columns);
}

// Gathering pays as soon as it saves this share of the product. Measured with benchmarks/bench_structured_linear.py.
constexpr double kWorthwhile[] = {0.05, 0.05, 0.05, 0.4};
// The same on matrix tiles, whose products skip dead tiles by themselves.
constexpr double kWorthwhileOnTiles[] = {0.05, 0.2, 0.2};

// A mask that is full everywhere needs neither gathering nor masking, and is one part.
bool is_full(const Plan& plan, const Bits& bits) { return plan.exact && plan.cells() == bits.rows * bits.columns; }

// What to gather; nothing where it is better to mask and multiply in full, which may be known before a plan is made.
std::optional<Plan> plan_unless_dense(int64_t structure, int64_t route, const Bits& bits, bool by_columns, bool tiles) {
  STD_TORCH_CHECK(structure >= kElement && structure <= kTiles, "structured_linear: no structure ", structure);
  if (route == kDense || (route == kAuto && structure == kTiles && tiles)) return std::nullopt;
  Plan plan = plan_for(structure, bits, by_columns);
  if (route != kAuto || is_full(plan, bits)) return plan;
  const double all = static_cast<double>(bits.rows) * static_cast<double>(bits.columns);
  const double worthwhile = (tiles ? kWorthwhileOnTiles : kWorthwhile)[structure];
  if (static_cast<double>(plan.cells()) > all * (1 - worthwhile)) return std::nullopt;
  return plan;
}

// What is not gathered is left to the operators for masks by element.
template <class... Arguments>
Tensor masked(const char* name, int64_t structure, int64_t route, const Arguments&... arguments) {
  using torch::stable::detail::from;
  StableIValue stack[] = {from(arguments)..., from(structure), from(route)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack, TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// ---- copying between a matrix and a compact one, by elements of one size ----

template <class F>
void with_size(int64_t bytes, const F& f) {
  if (bytes == 2) return f(uint16_t{});
  if (bytes == 4) return f(uint32_t{});
  f(uint64_t{});
}

template <class T>
void copy_run(const T* from, T* to, int64_t length) {
  if (length < 16)
    for (int64_t i = 0; i < length; ++i) to[i] = from[i];
  else
    std::memcpy(to, from, static_cast<size_t>(length) * sizeof(T));
}

template <class T>
void mask_run(const T* from, T* to, int64_t length, const uint64_t* word, int64_t column) {
  for (int64_t i = 0; i < length; ++i, ++column) {
    const bool live = (word[column / 64] >> (column % 64)) & 1;
    to[i] = live ? from[i] : T{0};
  }
}

// `f(place in the span, row)` for every row of the span, shared among threads.
template <class F>
void for_rows(const Span& rows, int64_t cost, const F& f) {
  std::vector<int64_t> starts;
  int64_t sum = 0;
  for (const Span::Run& run : rows.runs) {
    starts.push_back(sum);
    sum += run.length;
  }
  torch::stable::parallel_for(0, rows.count, std::max<int64_t>(1, kGrain / std::max<int64_t>(cost, 1)),
                              [&](int64_t begin, int64_t end) {
                                size_t r = std::upper_bound(starts.begin(), starts.end(), begin) - starts.begin() - 1;
                                for (int64_t i = begin; i < end; ++i) {
                                  while (i - starts[r] >= rows.runs[r].length) ++r;
                                  f(i, rows.runs[r].begin + i - starts[r]);
                                }
                              });
}

// A span as bits.
std::vector<uint64_t> words_of(const Span& span, int64_t size) {
  std::vector<uint64_t> words((size + 63) / 64, 0);
  for (const Span::Run& run : span.runs)
    for (int64_t i = run.begin; i < run.begin + run.length; ++i) words[i / 64] |= uint64_t{1} << (i % 64);
  return words;
}

// rows x columns of m, as a tensor of two dimensions; `bits` (or null) zero what is dead. No copy of a contiguous
// block.
Tensor gather(const Matrix& m, const Span& rows, const Span& columns, const Bits* bits) {
  if (bits == nullptr && columns.whole(m.columns) && rows.contiguous()) {
    Tensor flat = m.flat;
    return rows.whole(m.rows) ? flat : torch::stable::narrow(flat, 0, rows.runs[0].begin, rows.count);
  }
  const Tensor out = empty({rows.count, columns.count}, m.flat.scalar_type(), m.flat);
  if (m.bytes == 2 && isa() == Isa::amx && columns.runs.size() > 1) {
    const std::vector<uint64_t> taken = words_of(columns, m.columns);
    uint16_t* const to = static_cast<uint16_t*>(out.data_ptr());
    for_rows(rows, columns.count / 8, [&](int64_t i, int64_t row) {
      amx::columns()->gather(reinterpret_cast<const uint16_t*>(m.at(row)), m.columns, taken.data(),
                             bits ? bits->data + row * bits->stride : nullptr, to + i * columns.count);
    });
    return out;
  }
  with_size(m.bytes, [&](auto size) {
    using T = decltype(size);
    T* const to = static_cast<T*>(out.data_ptr());
    for_rows(rows, columns.count, [&](int64_t i, int64_t row) {
      const T* from = reinterpret_cast<const T*>(m.at(row));
      T* place = to + i * columns.count;
      for (const Span::Run& run : columns.runs) {
        if (bits)
          mask_run(from + run.begin, place, run.length, bits->data + row * bits->stride, run.begin);
        else
          copy_run(from + run.begin, place, run.length);
        place += run.length;
      }
    });
  });
  return out;
}

// The compact `from` to rows x columns of m, whose other columns of those rows become 0 if `clear`.
void scatter(const Tensor& from, const Matrix& m, const Span& rows, const Span& columns, const Bits* bits, bool clear) {
  const Matrix compact = matrix(from);
  if (m.bytes == 2 && isa() == Isa::amx && columns.runs.size() > 1) {
    const std::vector<uint64_t> taken = words_of(columns, m.columns);
    for_rows(rows, m.columns / 8, [&](int64_t i, int64_t row) {
      amx::columns()->scatter(reinterpret_cast<const uint16_t*>(compact.at(i)), taken.data(),
                              bits ? bits->data + row * bits->stride : nullptr, clear,
                              reinterpret_cast<uint16_t*>(m.at(row)), m.columns);
    });
    return;
  }
  with_size(m.bytes, [&](auto size) {
    using T = decltype(size);
    for_rows(rows, m.columns, [&](int64_t i, int64_t row) {
      const T* place = reinterpret_cast<const T*>(compact.at(i));
      T* to = reinterpret_cast<T*>(m.at(row));
      if (clear && !columns.whole(m.columns)) std::memset(to, 0, static_cast<size_t>(m.columns) * sizeof(T));
      for (const Span::Run& run : columns.runs) {
        if (bits)
          mask_run(place, to + run.begin, run.length, bits->data + row * bits->stride, run.begin);
        else
          copy_run(place, to + run.begin, run.length);
        place += run.length;
      }
    });
  });
}

// Rows of m that no part has, filled with `row` or, if that is null, with 0.
void fill_others(const Matrix& m, const std::vector<Part>& parts, const void* row) {
  int64_t next = 0;
  const auto fill = [&](int64_t end) {
    for (; next < end; ++next) {
      if (row)
        std::memcpy(m.at(next), row, static_cast<size_t>(m.columns * m.bytes));
      else
        std::memset(m.at(next), 0, static_cast<size_t>(m.columns * m.bytes));
    }
  };
  for (const Part& part : parts) {  // ascending
    for (const Span::Run& run : part.rows.runs) {
      fill(run.begin);
      next = run.begin + run.length;
    }
  }
  fill(m.rows);
}

// Of those that `auto` may choose, which is what is said of a product of gathered operands, too.
bool on_tiles(Product product, const Tensor& like, int64_t rows, int64_t columns, int64_t outputs) {
  return sparse_linear::on_tiles(product, dtype_of(like.scalar_type()), rows, columns, outputs, kAuto);
}

// Which product of M rows this is, left [M, K] x right [N, K]^T, shows in how they lie; dW has its sums over rows of
// both.
Product product_of(const Tensor& left, const Tensor& right) {
  if (right.stride(1) == 1) return Product::kForward;
  return left.stride(1) == 1 ? Product::kGradInput : Product::kGradWeight;
}

bool on_tiles_as_they_lie(const Tensor& left, const Tensor& right) {
  const int64_t m = left.size(0), k = left.size(1), n = right.size(0);
  const Product product = product_of(left, right);
  return product == Product::kGradWeight ? on_tiles(product, left, k, n, m) : on_tiles(product, left, m, k, n);
}

// Nothing where tiles cannot tell the result.
std::optional<Tensor> multiply_on_tiles(const Tensor& left, const Tensor& right, const std::optional<Tensor>& bias) {
  using sparse_linear::matrix;
  switch (product_of(left, right)) {
    case Product::kForward:
      return amx::forward(matrix(left), {}, right, bias);
    case Product::kGradInput:
      return amx::grad_input(matrix(left), {}, transposed(right));
    default:
      return amx::grad_weight(matrix(transposed(left)), matrix(transposed(right)), {});
  }
}

// left [M, K] x right [N, K]^T + bias; a bias only where rows of both lie in one piece.
Tensor multiply(const Tensor& left, const Tensor& right, const std::optional<Tensor>& bias) {
  multiplications.add(left.size(0) * left.size(1) * right.size(0));
  const bool empty = left.size(0) * left.size(1) * right.size(0) == 0;
  if (!empty && on_tiles_as_they_lie(left, right))
    if (const auto made = multiply_on_tiles(left, right, bias)) return *made;
  return dense_product(left, transposed(right), bias);
}

Tensor turned(const Tensor& t) {
  Tensor same = t;
  return torch::stable::transpose(same, 0, 1);
}

Tensor shaped(const Tensor& y, const Tensor& like, int64_t width) {
  if (like.dim() == 2) return y;
  std::vector<int64_t> sizes(like.sizes().begin(), like.sizes().end());
  sizes.back() = width;
  return torch::stable::reshape(y, sizes);
}

// ---- operators ----

Tensor forward(Tensor x, Tensor bits, Tensor weight, std::optional<Tensor> bias, int64_t structure, int64_t route) {
  forward_calls.add();
  check_forward(x, bits, weight, bias ? &*bias : nullptr);
  const Matrix xm = matrix(x), bm = matrix(bits), wm = matrix(weight);
  const Bits mask = bits_of(bm, xm.columns);
  const std::optional<Plan> found =
      plan_unless_dense(structure, route, mask, false, on_tiles(Product::kForward, x, xm.rows, xm.columns, wm.rows));
  if (!found) return masked("dmt_kernels::sparse_linear", structure, route, x, bits, weight, bias);
  const Plan& plan = *found;
  const Bits* dead = plan.exact ? nullptr : &mask;
  const Span outputs = Span::all(wm.rows);
  const auto product = [&](const Part& part) {
    return multiply(gather(xm, part.rows, part.columns, dead), gather(wm, outputs, part.columns, nullptr), bias);
  };
  if (plan.parts.size() == 1 && plan.parts[0].rows.whole(xm.rows) && wm.rows)
    return shaped(product(plan.parts[0]), x, wm.rows);
  const Tensor y = empty_with_width(x, wm.rows, x.scalar_type());
  if (y.numel() == 0) return y;
  const Matrix ym = matrix(y);
  for (const Part& part : plan.parts) scatter(product(part), ym, part.rows, outputs, nullptr, false);
  std::optional<Tensor> b;
  if (bias) b = as_contiguous(*bias);
  fill_others(ym, plan.parts, b ? b->data_ptr() : nullptr);
  return y;
}

Tensor grad_input(Tensor grad, Tensor bits, Tensor weight, int64_t structure, int64_t route) {
  grad_input_calls.add();
  check_grad_input(grad, bits, weight);
  const Matrix gm = matrix(grad), bm = matrix(bits), wm = matrix(weight);
  if (gm.columns == 0)
    return torch::stable::new_zeros(grad, [&] {
      std::vector<int64_t> sizes(grad.sizes().begin(), grad.sizes().end());
      sizes.back() = wm.columns;
      return sizes;
    }());
  const Bits mask = bits_of(bm, wm.columns);
  const std::optional<Plan> found = plan_unless_dense(
      structure, route, mask, false, on_tiles(Product::kGradInput, grad, gm.rows, wm.columns, gm.columns));
  if (!found) return masked("dmt_kernels::sparse_linear_grad_input", structure, route, grad, bits, weight);
  const Plan& plan = *found;
  if (is_full(plan, mask) && wm.columns && gm.rows)
    return shaped(multiply(gm.flat, turned(wm.flat), std::nullopt), grad, wm.columns);
  const Tensor out = empty_with_width(grad, wm.columns, grad.scalar_type());
  if (out.numel() == 0) return out;
  const Matrix om = matrix(out);
  const Span outputs = Span::all(wm.rows);
  for (const Part& part : plan.parts) {
    const Tensor right = turned(gather(wm, outputs, part.columns, nullptr));
    const Tensor live = multiply(gather(gm, part.rows, outputs, nullptr), right, std::nullopt);
    scatter(live, om, part.rows, part.columns, plan.exact ? nullptr : &mask, true);
  }
  fill_others(om, plan.parts, nullptr);
  return out;
}

Tensor grad_weight(Tensor grad, Tensor x, Tensor bits, int64_t structure, int64_t route) {
  grad_weight_calls.add();
  check_grad_weight(grad, x, bits);
  const Matrix gm = matrix(grad), xm = matrix(x), bm = matrix(bits);
  const Bits mask = bits_of(bm, xm.columns);
  const std::optional<Plan> found = plan_unless_dense(
      structure, route, mask, true, on_tiles(Product::kGradWeight, x, xm.rows, xm.columns, gm.columns));
  if (!found) return masked("dmt_kernels::sparse_linear_grad_weight", structure, route, grad, x, bits);
  const Plan& plan = *found;
  if (is_full(plan, mask) && xm.rows && xm.columns && gm.columns)
    return multiply(turned(gm.flat), turned(xm.flat), std::nullopt);
  const Tensor out = empty({gm.columns, xm.columns}, x.scalar_type(), x);
  if (out.numel() == 0) return out;
  const Matrix om = matrix(out);
  const Span outputs = Span::all(gm.columns);
  int64_t covered = 0;
  for (const Part& part : plan.parts) covered += part.columns.count;
  if (covered < xm.columns) std::memset(om.data, 0, static_cast<size_t>(out.numel() * om.bytes));
  for (const Part& part : plan.parts) {
    const Tensor left = turned(gather(gm, part.rows, outputs, nullptr));
    const Tensor right = turned(gather(xm, part.rows, part.columns, plan.exact ? nullptr : &mask));
    scatter(multiply(left, right, std::nullopt), om, outputs, part.columns, nullptr, false);
  }
  return out;
}

}  // namespace
}  // namespace dmt::structured_linear

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) {
  m.impl("structured_linear", TORCH_BOX(&dmt::structured_linear::forward));
  m.impl("structured_linear_grad_input", TORCH_BOX(&dmt::structured_linear::grad_input));
  m.impl("structured_linear_grad_weight", TORCH_BOX(&dmt::structured_linear::grad_weight));
}
