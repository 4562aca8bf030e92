// threshold_ema on the CPU: one pass for mean |x|, one for mask, bits and statistics; the loops are in loops.h.
//
// The work is cut into blocks whose number depends on the shape alone, and partial results are added in the order of
// the blocks: the outcome does not depend on the number of threads.
#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <optional>
#include <tuple>
#include <vector>

#include "../simd.h"
#include "checks.h"
#include "jobs.h"

namespace dmt {
namespace {

constexpr int64_t kBlock = 32768;  // elements, at least, in a block
constexpr int64_t kMaxBlocks = 64;
constexpr int64_t kMaxSummedBlocks = 16;  // where each block keeps sums of every column

CallCounter forward_calls("threshold_ema"), backward_calls("threshold_ema_backward"), sums_calls("abs_sums");

Float dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return Float::f32;
    case ScalarType::Double:
      return Float::f64;
    case ScalarType::BFloat16:
      return Float::bf16;
    case ScalarType::Half:
      return Float::f16;
    default:
      STD_TORCH_CHECK(false, "threshold_ema expects x in float32, bfloat16, float16 or float64");
  }
}

Loops loops(Float dtype) {
#if defined(__x86_64__)
  if (isa() == Isa::avx512) return avx512::loops(dtype);
  if (isa() == Isa::avx2) return avx2::loops(dtype);
#endif
  return baseline::loops(dtype);
}

// Rows cut into blocks.
struct Blocks {
  int64_t rows, count;
  Blocks(int64_t rows, int64_t width, int64_t most = kMaxBlocks)
      : rows(rows), count(std::clamp<int64_t>(rows * width / kBlock, 1, std::min(most, std::max<int64_t>(rows, 1)))) {}
  int64_t begin(int64_t block) const { return rows * block / count; }
  template <typename F>
  void each(const F& work) const {
    if (count == 1) return work(0, 0, rows);
    torch::stable::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) work(b, begin(b), begin(b + 1));
    });
  }
};

size_t element_size(Float dtype) { return dtype == Float::f64 ? 8 : dtype == Float::f32 ? 4 : 2; }

double element(const void* data, int64_t index, Float dtype) {
  switch (dtype) {
    case Float::f64:
      return static_cast<const double*>(data)[index];
    case Float::bf16:
      return static_cast<double>(baseline::to_float(static_cast<const BFloat16*>(data)[index]));
    case Float::f16:
      return static_cast<double>(baseline::to_float(static_cast<const Float16*>(data)[index]));
    default:
      return static_cast<const float*>(data)[index];
  }
}

// Sum of |x| over finite elements, and their number.
std::array<double, 2> absolute_sums(const Rows& x, Float dtype, const Blocks& blocks, AbsSums sum) {
  double partial[kMaxBlocks][2];
  blocks.each([&](int64_t block, int64_t begin, int64_t end) {
    const char* data = static_cast<const char*>(x.data);
    const int64_t row_bytes = x.stride * static_cast<int64_t>(element_size(dtype));
    if (x.flat()) return sum(data + begin * row_bytes, (end - begin) * x.width, partial[block]);
    partial[block][0] = partial[block][1] = 0;
    for (int64_t row = begin; row < end; ++row) {
      double of_row[2];
      sum(data + row * row_bytes, x.width, of_row);
      partial[block][0] += of_row[0];
      partial[block][1] += of_row[1];
    }
  });
  std::array<double, 2> total{0, 0};
  for (int64_t b = 0; b < blocks.count; ++b) {
    total[0] += partial[b][0];
    total[1] += partial[b][1];
  }
  return total;
}

// Float32 or float64 numbers of a tensor, looked up once: each question to a tensor crosses the stable ABI.
class Numbers {
 public:
  explicit Numbers(const Tensor& t) : wide_(t.scalar_type() == ScalarType::Double), data_(t.mutable_data_ptr()) {
    STD_TORCH_CHECK(wide_ || t.scalar_type() == ScalarType::Float, "expected float32 or float64");
  }
  double get(int64_t at) const {
    return wide_ ? static_cast<const double*>(data_)[at] : static_cast<double>(static_cast<const float*>(data_)[at]);
  }
  void set(int64_t at, double value) const {
    if (wide_) {
      static_cast<double*>(data_)[at] = value;
    } else {
      static_cast<float*>(data_)[at] = static_cast<float>(value);
    }
  }

 private:
  bool wide_;
  void* data_;
};

// Adds the later blocks' sums, `size` each, to those of the first, in order.
void add_blocks(double* sums, int64_t blocks, int64_t size) {
  for (int64_t b = 1; b < blocks; ++b) {
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[b * size + i];
  }
}

// 16-bit thetas are rare and small: widened once.
Tensor wide_theta(const Tensor& theta) {
  const bool wide = theta.scalar_type() == ScalarType::Float || theta.scalar_type() == ScalarType::Double;
  return as_contiguous(wide ? theta : torch::stable::to(theta, ScalarType::Float));
}

// Memory that no vector straddles a cache line of: what lies across one costs twice.
template <typename N>
struct Aligned {
  using value_type = N;
  Aligned() = default;
  template <typename M>
  explicit Aligned(const Aligned<M>&) {}
  N* allocate(size_t n) { return static_cast<N*>(::operator new(n * sizeof(N), std::align_val_t{64})); }
  void deallocate(N* p, size_t) { ::operator delete(p, std::align_val_t{64}); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
template <typename N>
using AlignedVector = std::vector<N, Aligned<N>>;

// Numbers per column in the arithmetic of dtype: float, or double for f64. Columns past the width hold `rest`.
class Columns {
 public:
  Columns(Float dtype, int64_t words, int64_t kinds = 1) : wide_(dtype == Float::f64) {
    if (wide_) {
      doubles_.resize(static_cast<size_t>(words * 64 * kinds));
    } else {
      floats_.resize(static_cast<size_t>(words * 64 * kinds));
    }
  }
  void set(int64_t at, double value) {
    if (wide_) {
      doubles_[static_cast<size_t>(at)] = value;
    } else {
      floats_[static_cast<size_t>(at)] = static_cast<float>(value);
    }
  }
  void fill(double value) {
    std::fill(doubles_.begin(), doubles_.end(), value);
    std::fill(floats_.begin(), floats_.end(), static_cast<float>(value));
  }
  double get(int64_t at) const {
    return wide_ ? doubles_[static_cast<size_t>(at)] : static_cast<double>(floats_[static_cast<size_t>(at)]);
  }
  // 1 / value in the same arithmetic, 0 for 0.
  Columns inverse() const {
    Columns r = *this;
    for (double& d : r.doubles_) d = d > 0 ? 1 / d : 0;
    for (float& f : r.floats_) f = f > 0 ? 1 / f : 0;
    return r;
  }
  const void* data() const { return wide_ ? static_cast<const void*>(doubles_.data()) : floats_.data(); }

 private:
  bool wide_;
  AlignedVector<float> floats_;
  AlignedVector<double> doubles_;
};

Columns thresholds(const Tensor& theta, double mu, Float dtype, int64_t width) {
  Columns t(dtype, words(width));
  const Tensor wide = wide_theta(theta);
  const Numbers raw(wide);
  if (theta.dim() == 0) {
    t.fill(sigmoid(raw.get(0)) * mu);
  } else {
    for (int64_t c = 0; c < width; ++c) t.set(c, sigmoid(raw.get(c)) * mu);
  }
  return t;
}

// The first row, which stands in for the mean of each column; 0 if there is none.
Columns first_row(const Rows& x, Float dtype) {
  Columns row(dtype, words(x.width));
  for (int64_t c = 0; c < (x.rows > 0 ? x.width : 0); ++c) row.set(c, element(x.data, c, dtype));
  return row;
}

Tensor abs_sums(const Tensor& x) {
  sums_calls.add();
  const Float dtype = dtype_of(x);
  STD_TORCH_CHECK(x.dim() >= 1, "abs_sums expects x [..., D], got a tensor without dimensions");
  const Rows rows = as_rows(x);
  const Tensor out = empty({2}, ScalarType::Double, x);
  const auto sums = absolute_sums(rows, dtype, Blocks(rows.rows, rows.width), loops(dtype).abs_sums);
  std::copy(sums.begin(), sums.end(), static_cast<double*>(out.mutable_data_ptr()));
  return out;
}

// Bytes of x and values together that no longer stay in a core's share of the last-level cache: values go past it then.
// What the system says of its cache is the whole machine's, even within a virtual one, and no measure of that share.
constexpr int64_t kCached = 16 << 20;

// What was asked for, and what came of it. A tensor that nobody asked for is undefined, which Python sees as None.
struct Asked {
  double alpha;
  bool update, information, store;
};
struct Outcome {
  Tensor values, bits, live, divergence, statistics;
  float state[kStateSize];
};

Outcome run(const Tensor& x, const Tensor& theta, const Tensor& state, const Tensor* sums, const Asked& asked) {
  forward_calls.add();
  check(x, theta, state);
  if (sums) check_sums(*sums, x);
  const Float dtype = dtype_of(x);
  const Loops loop = loops(dtype);
  const ScalarType work = dtype == Float::f64 ? ScalarType::Double : ScalarType::Float;
  const Rows rows = as_rows(x);
  const Blocks blocks(rows.rows, rows.width, asked.information ? kMaxSummedBlocks : kMaxBlocks);
  const int64_t width = x.size(x.dim() - 1), words = dmt::words(width), columns = kSums * words * 64;

  Outcome out;
  const Tensor before = as_contiguous(state);
  const float* old = static_cast<const float*>(before.const_data_ptr());
  if (asked.update) {
    const auto total = sums ? std::array<double, 2>{Numbers(*sums).get(0), Numbers(*sums).get(1)}
                            : absolute_sums(rows, dtype, blocks, loop.abs_sums);
    next_state(old, total[0], total[1], asked.alpha, out.state);
  } else {
    std::copy(old, old + kStateSize, out.state);
  }

  if (asked.store) out.values = empty(x.sizes().data(), x.dim(), x.scalar_type(), x);
  out.bits = empty_with_width(x, words, ScalarType::Long);
  out.live = empty({}, ScalarType::Float, x);
  const Columns bounds = thresholds(theta, out.state[0], dtype, width);
  const Columns shifts = asked.information ? first_row(rows, dtype) : Columns(dtype, 0);
  const MaskJob job{rows.data,
                    asked.store ? out.values.mutable_data_ptr() : nullptr,
                    static_cast<uint64_t*>(out.bits.mutable_data_ptr()),
                    bounds.data(),
                    shifts.data(),
                    rows.stride,
                    rows.width,
                    words,
                    theta.dim() == 0,
                    2 * rows.rows * width * static_cast<int64_t>(element_size(dtype)) > kCached};
  int64_t counts[kMaxBlocks];
  const int64_t numbers = asked.information ? blocks.count * columns : 0;
  AlignedVector<double> summed(static_cast<size_t>(2 * numbers));
  blocks.each([&](int64_t block, int64_t begin, int64_t end) {
    double* to = numbers ? summed.data() + block * columns : nullptr;
    counts[block] = loop.mask_rows(job, begin, end, to, to + numbers);
  });
  int64_t kept = 0;
  for (int64_t b = 0; b < blocks.count; ++b) kept += counts[b];
  const int64_t all = std::max<int64_t>(rows.rows * width, 1);
  *static_cast<float*>(out.live.mutable_data_ptr()) =
      static_cast<float>(static_cast<double>(kept) / static_cast<double>(all));
  if (asked.information) {
    out.divergence = empty({}, work, x);
    out.statistics = empty({4, width}, work, x);
    add_blocks(summed.data(), blocks.count, columns);
    Numbers(out.divergence)
        .set(0, loop.finish_divergence({summed.data(), shifts.data(), out.statistics.mutable_data_ptr(), kEpsilon,
                                        rows.rows, width, words}));
  }
  return out;
}

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Tensor state_tensor(const float* state, const Tensor& like) {
  const Tensor t = empty({kStateSize}, ScalarType::Float, like);
  std::copy(state, state + kStateSize, static_cast<float*>(t.mutable_data_ptr()));
  return t;
}

Results forward(const Tensor& x, const Tensor& theta, const Tensor& state, std::optional<Tensor> sums, double alpha,
                bool update, bool information, bool store) {
  Outcome out = run(x, theta, state, sums ? &*sums : nullptr, {alpha, update, information, store});
  if (!store) out.values = empty({0}, x.scalar_type(), x);
  if (!information) {
    const ScalarType work = x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    out.divergence = empty({}, work, x);
    Numbers(out.divergence).set(0, 0);
    out.statistics = empty({4, 0}, work, x);
  }
  return {out.values, out.bits, out.live, out.divergence, state_tensor(out.state, x), out.statistics};
}

// The same with the new state in place of the old; `keep` asks for what the backward pass wants of it.
Results forward_in_place(const Tensor& x, const Tensor& theta, const Tensor& state, double alpha, bool update,
                         bool information, bool store, bool keep) {
  Outcome out = run(x, theta, state, nullptr, {alpha, update, information, store});
  if (update) {
    float* to = static_cast<float*>(state.mutable_data_ptr());
    for (int64_t i = 0, step = state.stride(0); i < kStateSize; ++i) to[i * step] = out.state[i];
  }
  return {out.values, out.bits, out.live, out.divergence, keep ? state_tensor(out.state, x) : Tensor(), out.statistics};
}

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
                        words(width)};
  const std::unique_ptr<double[]> partial(new double[static_cast<size_t>(blocks.count * padded)]);
  const Loops loop = loops(dtype);
  blocks.each([&](int64_t block, int64_t begin, int64_t end) {
    double* to = partial.get() + block * padded;
    std::fill(to, to + padded, 0.0);
    loop.backward_rows(job, begin, end, to);
  });
  add_blocks(partial.get(), blocks.count, padded);
  return {grad_x, theta_gradient(partial.get(), inverses, theta, mu, width)};
}

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) {
  m.impl("abs_sums", TORCH_BOX(&dmt::abs_sums));
  m.impl("threshold_ema", TORCH_BOX(&dmt::forward));
  m.impl("threshold_ema_", TORCH_BOX(&dmt::forward_in_place));
  m.impl("threshold_ema_backward", TORCH_BOX(&dmt::backward));
}
