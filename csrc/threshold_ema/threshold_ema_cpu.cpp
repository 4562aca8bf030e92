// threshold_ema on the CPU: one pass for mean |x|, one for mask, bits and statistics; or one for all but the
// statistics, where x is large (guess.h). The loops are in loops.h.
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <tuple>

#include "../simd.h"
#include "guess.h"
#include "host.h"
#include "store.h"

namespace dmt {
namespace {

CallCounter forward_calls("threshold_ema"), sums_calls("abs_sums"), one_pass_calls("threshold_ema_one_pass");

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

// The first row, which stands in for the mean of each column; 0 if there is none.
Columns first_row(const Rows& x, Float dtype) {
  Columns row(dtype, words(x.width));
  for (int64_t c = 0; c < (x.rows > 0 ? x.width : 0); ++c) row.set(c, element(x.data, c, dtype));
  return row;
}

// Sum of |x| over finite elements, and their number.
std::array<double, 2> absolute_sums(const Rows& x, const Blocks& blocks, AbsSums sum) {
  double partial[kMaxBlocks][2];
  blocks.each(
      [&](int64_t block, int64_t begin, int64_t end) { sum({x.data, x.stride, x.width}, begin, end, partial[block]); });
  std::array<double, 2> total{0, 0};
  for (int64_t b = 0; b < blocks.count; ++b) {
    total[0] += partial[b][0];
    total[1] += partial[b][1];
  }
  return total;
}

Tensor abs_sums(const Tensor& x) {
  sums_calls.add();
  const Float dtype = dtype_of(x);
  STD_TORCH_CHECK(x.dim() >= 1, "abs_sums expects x [..., D], got a tensor without dimensions");
  const Rows rows = as_rows(x);
  const Tensor out = empty({2}, ScalarType::Double, x);
  const auto sums = absolute_sums(rows, Blocks(rows.rows, rows.width), loops(dtype).abs_sums);
  std::copy(sums.begin(), sums.end(), static_cast<double*>(out.mutable_data_ptr()));
  return out;
}

// What was asked for, and what came of it. A tensor that nobody asked for is undefined, which Python sees as None.
struct Asked {
  double alpha;
  bool update, information, store;
};
struct Outcome {
  Tensor values, bits, live, divergence, statistics;
  float state[kStateSize];
};

// Eq. 6 and 7 in one pass over x; writes the state. Returns the live count, or nothing if mu could not be guessed well
// or lies elsewhere: values and bits are then still to be made.
std::optional<int64_t> in_one_pass(const Rows& x, const Tensor& theta, Float dtype, const Blocks& blocks, MaskJob job,
                                   const float* old, double alpha, float* state) {
  const Loops loop = loops(dtype);
  const Range range = guess_mu(x, element_size(dtype), loop.abs_sums, old, alpha);
  if (!range.narrow) return std::nullopt;
  const Columns low = thresholds(theta, range.low, dtype, x.width),
                high = thresholds(theta, range.high, dtype, x.width);
  const std::unique_ptr<uint32_t[]> listed(new uint32_t[static_cast<size_t>(x.rows * job.words)]);
  Guess found[kMaxBlocks];
  int64_t counts[kMaxBlocks];
  job.thresholds = low.data();
  blocks.each([&](int64_t block, int64_t begin, int64_t end) {
    found[block] = {high.data(), listed.get() + begin * job.words, 0, 0};
    counts[block] = loop.guess_rows(job, begin, end, &found[block]);
  });
  double sum = 0;
  for (int64_t b = 0; b < blocks.count; ++b) sum += found[b].sum;
  if (!std::isfinite(sum)) return std::nullopt;
  next_state(old, sum, static_cast<double>(x.rows * x.width), alpha, state);
  if (state[0] < range.low || state[0] > range.high) return std::nullopt;
  one_pass_calls.add();
  const Columns exact = thresholds(theta, state[0], dtype, x.width);
  job.thresholds = exact.data();
  blocks.each([&](int64_t block, int64_t begin, int64_t) {
    counts[block] += loop.mend(job, begin, found[block].listed, found[block].count);
  });
  return std::accumulate(counts, counts + blocks.count, int64_t{0});
}

int64_t mask(const Loops& loop, const Blocks& blocks, const MaskJob& job) {
  int64_t counts[kMaxBlocks];
  blocks.each_backwards(
      [&](int64_t block, int64_t begin, int64_t end) { counts[block] = loop.mask_rows(job, begin, end); });
  return std::accumulate(counts, counts + blocks.count, int64_t{0});
}

// The same with eq. 10, which goes to `out`.
int64_t mask_and_sum(const Rows& x, Float dtype, const Blocks& blocks, MaskJob job, Outcome* out) {
  const Loops loop = loops(dtype);
  const ScalarType work = dtype == Float::f64 ? ScalarType::Double : ScalarType::Float;
  const int64_t columns = kSums * job.words * 64;
  const Columns shifts = first_row(x, dtype);
  job.shifts = shifts.data();
  const Room sums(blocks.count * columns);
  int64_t counts[kMaxBlocks];
  blocks.each_backwards([&](int64_t block, int64_t begin, int64_t end) {
    double* to = std::fill_n(sums.data() + block * columns, columns, 0.0) - columns;
    const Room partial(columns);
    counts[block] = loop.mask_and_sum(job, begin, end, to, partial.data());
  });
  out->divergence = empty({}, work, out->bits);
  out->statistics = empty({4, x.width}, work, out->bits);
  add_blocks(sums.data(), blocks.count, columns);
  Numbers(out->divergence)
      .set(0, loop.finish_divergence({sums.data(), shifts.data(), out->statistics.mutable_data_ptr(), kEpsilon, x.rows,
                                      x.width, job.words}));
  return std::accumulate(counts, counts + blocks.count, int64_t{0});
}

Outcome run(const Tensor& x, const Tensor& theta, const Tensor& state, const Tensor* sums, const Asked& asked) {
  forward_calls.add();
  check(x, theta, state);
  if (sums) check_sums(*sums, x);
  const Float dtype = dtype_of(x);
  const Loops loop = loops(dtype);
  const Rows rows = as_rows(x);
  const Blocks blocks(rows.rows, rows.width, asked.information ? kMaxSummedBlocks : kMaxBlocks);
  const int64_t words = dmt::words(rows.width), elements = rows.rows * rows.width;

  Outcome out;
  if (asked.store) out.values = empty(x.sizes().data(), x.dim(), x.scalar_type(), x);
  out.bits = empty_with_width(x, words, ScalarType::Long);
  out.live = empty({}, ScalarType::Float, x);
  MaskJob job{rows.data,
              asked.store ? out.values.mutable_data_ptr() : nullptr,
              static_cast<uint64_t*>(out.bits.mutable_data_ptr()),
              nullptr,
              nullptr,
              rows.stride,
              rows.width,
              words,
              goes_past(elements * element_size(dtype))};

  const Tensor before = as_contiguous(state);
  const float* old = static_cast<const float*>(before.const_data_ptr());
  std::copy(old, old + kStateSize, out.state);
  std::optional<int64_t> kept;
  if (asked.update && !sums && !asked.information && exceeds_cache(elements * element_size(dtype)))
    kept = in_one_pass(rows, theta, dtype, blocks, job, old, asked.alpha, out.state);
  if (!kept) {
    if (asked.update) {
      const auto total = sums ? std::array<double, 2>{Numbers(*sums).get(0), Numbers(*sums).get(1)}
                              : absolute_sums(rows, blocks, loop.abs_sums);
      next_state(old, total[0], total[1], asked.alpha, out.state);
    }
    const Columns bounds = thresholds(theta, out.state[0], dtype, rows.width);
    job.thresholds = bounds.data();
    kept = asked.information ? mask_and_sum(rows, dtype, blocks, job, &out) : mask(loop, blocks, job);
  }
  *static_cast<float*>(out.live.mutable_data_ptr()) =
      static_cast<float>(static_cast<double>(*kept) / static_cast<double>(std::max<int64_t>(elements, 1)));
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

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) {
  m.impl("abs_sums", TORCH_BOX(&dmt::abs_sums));
  m.impl("threshold_ema", TORCH_BOX(&dmt::forward));
  m.impl("threshold_ema_", TORCH_BOX(&dmt::forward_in_place));
}
