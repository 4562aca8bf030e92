// The steps of products on matrix tiles against plain sums, with loops in place of the tiles. Prints how many numbers
// were checked.
#define DMT_AMX_ON_HOST
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "amx/parts.h"

using namespace dmt::amx;

namespace {

// How numbers of a type are made, and how far results may be off: of their own size, and of that of what is summed.
struct Bfloat16 {
  using Number = uint16_t;
  static constexpr Number nan = 0x7fc0;
  static constexpr double own = 1.0 / 256, of_sum = 1e-6;
  static Number random() { return 0x3f00 + (std::rand() & 0x80ff); }
  static double value(Number n) { return wide(reinterpret_cast<const uint8_t*>(&n)); }
};
struct Float {
  using Number = float;
  static constexpr Number nan = std::numeric_limits<float>::quiet_NaN();
  static constexpr double own = 1e-7, of_sum = 1e-6;
  static Number random() { return std::ldexp(std::rand() / float(RAND_MAX) - 0.5f, std::rand() % 9 - 4); }
  static double value(Number n) { return n; }
};

template <class Type>
struct Matrix {
  using Number = typename Type::Number;
  int64_t rows, columns, stride, words;
  std::vector<Number> data;
  std::vector<uint64_t> bits;  // bits behind the last column are set as well

  Matrix(int64_t r, int64_t c, bool masked) : rows(r), columns(c), stride(c + r % 3), words((c + 63) / 64) {
    // Past the columns of a row lies what must not be read as a number of it.
    data.assign(rows * stride + 1, Type::nan);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) data[i * stride + j] = Type::random();
    if (!masked) return;
    for (int64_t i = 0; i < rows * words; ++i)
      bits.push_back((uint64_t(std::rand()) << 33) ^ (uint64_t(std::rand()) << 13) ^ std::rand());
    for (int64_t i = 0; i < rows; i += 32)
      for (int64_t j = 0; j < columns; j += 32)
        if (std::rand() % 3 == 0)
          for (int64_t r = i; r < rows && r < i + 32; ++r)
            bits[r * words + j / 64] &= ~(uint64_t{0xffffffff} << j % 64);
    for (int64_t i = 0; i < rows; ++i)
      if (columns % 64) bits[i * words + words - 1] |= ~uint64_t{0} << (columns % 64);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        if (!live(i, j)) data[i * stride + j] = Type::nan;
  }
  bool live(int64_t i, int64_t j) const { return bits.empty() || (bits[i * words + j / 64] >> (j % 64) & 1); }
  double at(int64_t i, int64_t j) const { return live(i, j) ? Type::value(data[i * stride + j]) : 0; }
  Operand operand() const {
    return {data.data(), stride, rows, columns, {bits.empty() ? nullptr : bits.data(), words}};
  }
};

int64_t checked = 0, skipped = 0;

struct Side {
  Operand of;
  Pack pack;
};

// A panel at once.
void make(const Steps& steps, const Side& side, int64_t first, int64_t begin, int64_t end, char* panel) {
  for (int64_t depth = begin; depth < end; depth += kDepth, panel += steps.step_bytes)
    side.pack.pieces(side.of, first, depth, 0, side.pack.count, panel);
}

// A panel in two shares, beside a product of no steps, and one of one step, which has fewer than the panel perhaps.
void make_beside(const Steps& steps, const Side& side, int64_t first, int64_t begin, int64_t end, char* panel,
                 const char* other) {
  alignas(64) float sums[kBlock];
  for (int turn = 0; turn < 2; ++turn) {
    const Job job{side.pack, &side.of, first, begin, end, panel, turn, 2};
    steps.multiply(packed(other), other, {nullptr, turn}, false, sums, &job, {});
  }
}

// C of `m` x `n` from depth `d`, in two goes where there are two steps.
template <class Type, class L, class R>
void check(const Steps& steps, int64_t m, int64_t n, int64_t d, const Side& left, bool by_rows, const Side& right,
           Order rows, Order columns, bool masks, bool biased, L l, R r) {
  using Number = typename Type::Number;
  Matrix<Type> mask(m, n, masks), bias(1, n, false);
  const Number untouched = Type::random();
  std::vector<Number> out(m * (n + 1), untouched);
  Result to{
      out.data(), n + 1,  m, n, {masks ? mask.bits.data() : nullptr, mask.words}, biased ? bias.data.data() : nullptr,
      rows,       columns};
  const int64_t cut = steps_of(d) > 1 ? kDepth : d, bytes = (steps_of(d) + 1) * steps.step_bytes;
  char* const panels = static_cast<char*>(std::aligned_alloc(64, 2 * bytes));
  std::memset(panels, 0, 2 * bytes);
  alignas(64) float sums[kBlock];
  for (int64_t i = 0; i < m; i += kSide)
    for (int64_t j = 0; j < n; j += kSide) {
      for (int64_t begin = 0, end = cut; begin < d || begin == 0; begin = end, end = d) {
        make(steps, left, i, begin, end, panels);
        make_beside(steps, right, j, begin, end, panels + bytes, panels);
        std::vector<int32_t> list(steps_of(end - begin) + 1);
        const int64_t count = by_rows ? steps.live_in_rows(left.of, i, begin, end, list.data())
                                      : steps.live_in_columns(right.of, j, begin, end, list.data());
        skipped += steps_of(end - begin) - count;
        steps.multiply(packed(panels), panels + bytes, {list.data(), count}, begin > 0, sums, nullptr, {});
        if (end == d) break;
      }
      if (!steps.finish(sums, to, i, j)) std::puts("said not to be finite"), std::exit(1);
    }
  std::free(panels);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = biased ? bias.at(0, j) : 0, size = std::fabs(want);
      for (int64_t k = 0; k < d; ++k) want += l(i, k) * r(k, j), size += std::fabs(l(i, k) * r(k, j));
      const double got = Type::value(out[i * (n + 1) + j]);
      const bool right_one = masks && !mask.live(i, j)
                                 ? got == 0
                                 : std::fabs(got - want) <= std::fabs(want) * Type::own + size * Type::of_sum;
      if (!right_one)
        std::printf("[%ld][%ld] of %ld x %ld, depth %ld: %g, not %g\n", i, j, m, n, d, got, want), std::exit(1);
      ++checked;
    }
    if (out[i * (n + 1) + n] != untouched) std::puts("written past the last column"), std::exit(1);
  }
}

template <class Type>
void check_all(const Steps& steps) {
  const int64_t sizes[][3] = {{1, 1, 1},    {32, 32, 32}, {33, 31, 65}, {64, 40, 96},
                              {7, 100, 33}, {70, 64, 5},  {3, 3, 0}};
  using M = Matrix<Type>;
  for (const auto& [m, n, k] : sizes) {
    const M x(m, k, true), w(n, k, false), dy(m, n, false), plain(m, k, false);
    for (const bool biased : {false, true})
      check<Type>(
          steps, m, n, k, {x.operand(), steps.left_rows}, true, {w.operand(), steps.right_across}, Order::kPlain,
          Order::kPlain, false, biased, [&](int64_t i, int64_t d) { return x.at(i, d); },
          [&](int64_t d, int64_t j) { return w.at(j, d); });
    for (const bool masks : {false, true})
      check<Type>(
          steps, m, k, n, {dy.operand(), steps.left_rows}, true, {w.operand(), steps.right_rows}, Order::kPlain,
          steps.across, masks, false, [&](int64_t i, int64_t d) { return dy.at(i, d); },
          [&](int64_t d, int64_t j) { return w.at(d, j); });
    for (const M* one : {&x, &plain})
      check<Type>(
          steps, n, k, m, {dy.operand(), steps.left_across}, false, {one->operand(), steps.right_rows}, steps.across,
          steps.across, false, false, [&](int64_t i, int64_t d) { return dy.at(d, i); },
          [&](int64_t d, int64_t j) { return one->at(d, j); });
  }
}

// What is not finite, and what becomes so in parts, is told, unless a mask hides it.
void check_not_finite(const Steps& steps) {
  for (const float odd : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::max()}) {
    Matrix<Float> x(5, 40, false), w(3, 40, false), mask(5, 3, true);
    x.data[2 * x.stride + 33] = odd;
    std::vector<float> out(5 * 3);
    char* const panels = static_cast<char*>(std::aligned_alloc(64, 4 * steps.step_bytes));
    make(steps, {x.operand(), steps.left_rows}, 0, 0, 40, panels);
    make(steps, {w.operand(), steps.right_across}, 0, 0, 40, panels + 2 * steps.step_bytes);
    alignas(64) float sums[kBlock];
    steps.multiply(packed(panels), panels + 2 * steps.step_bytes, {nullptr, 2}, false, sums, nullptr, {});
    Result to{out.data(), 3, 5, 3, {}, nullptr, Order::kPlain, Order::kPlain};
    if (steps.finish(sums, to, 0, 0)) std::printf("%g not told\n", odd), std::exit(1);
    mask.bits.assign(mask.bits.size(), ~uint64_t{0});
    mask.bits[2] = 0;
    to.mask = {mask.bits.data(), mask.words};
    if (!steps.finish(sums, to, 0, 0)) std::printf("%g told though hidden\n", odd), std::exit(1);
    std::free(panels);
    checked += 2;
  }
}

}  // namespace

int main() {
  check_all<Bfloat16>(kBfloat16);
  check_all<Float>(kFloat);
  check_not_finite(kFloat);
  std::printf("checked %ld, skipped %ld\n", checked, skipped);
}
