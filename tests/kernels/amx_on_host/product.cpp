// The steps of products on matrix tiles against plain sums, with loops in place of the tiles. Prints how many numbers
// were checked.
#define DMT_AMX_ON_HOST
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "amx/block.h"

using namespace dmt::amx;

namespace {

struct Matrix {
  int64_t rows, columns, stride, words;
  std::vector<uint16_t> data;
  std::vector<uint64_t> bits;  // bits behind the last column are set as well

  Matrix(int64_t r, int64_t c, bool masked) : rows(r), columns(c), stride(c + r % 3), words((c + 63) / 64) {
    // Past the columns of a row lies what must not be read as a number of it.
    data.assign(rows * stride + 1, 0x7fc0);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) data[i * stride + j] = 0x3f00 + (std::rand() & 0x80ff);
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
        if (!live(i, j)) data[i * stride + j] = 0x7fc0;
  }
  bool live(int64_t i, int64_t j) const { return bits.empty() || (bits[i * words + j / 64] >> (j % 64) & 1); }
  double at(int64_t i, int64_t j) const {
    return live(i, j) ? wide(reinterpret_cast<const uint8_t*>(&data[i * stride + j])) : 0;
  }
  Operand operand() const {
    return {data.data(), stride, rows, columns, {bits.empty() ? nullptr : bits.data(), words}};
  }
};

using Pack = void (*)(const Operand&, int64_t, int64_t, int64_t, void*);
int64_t checked = 0, skipped = 0;

// C of `m` x `n` from depth `d`, in two goes where there are two steps.
template <class L, class R>
void check(int64_t m, int64_t n, int64_t d, const Matrix& left, const Matrix& right, Pack pack_left, Pack pack_right,
           Order rows, Order columns, bool masks, bool biased, L l, R r) {
  Matrix mask(m, n, masks), bias(1, n, false);
  std::vector<uint16_t> out(m * (n + 1), 0x1234);
  Result to{
      out.data(), n + 1,  m, n, {masks ? mask.bits.data() : nullptr, mask.words}, biased ? bias.data.data() : nullptr,
      rows,       columns};
  const int64_t cut = steps_of(d) > 1 ? kDepth : d, bytes = (steps_of(d) + 1) * kStepBytes;
  char* const panels = static_cast<char*>(std::aligned_alloc(64, 2 * bytes));
  alignas(64) float sums[kBlock];
  for (int64_t i = 0; i < m; i += kSide)
    for (int64_t j = 0; j < n; j += kSide) {
      for (int64_t begin = 0, end = cut; begin < d || begin == 0; begin = end, end = d) {
        pack_left(left.operand(), i, begin, end, panels);
        pack_right(right.operand(), j, begin, end, panels + bytes);
        std::vector<int32_t> list(steps_of(end - begin) + 1);
        Chosen chosen{nullptr, steps_of(end - begin)};
        if (pack_left == left_rows) chosen = {list.data(), live_in_rows(left.operand(), i, begin, end, list.data())};
        if (pack_left == left_across)
          chosen = {list.data(), live_in_columns(right.operand(), j, begin, end, list.data())};
        skipped += steps_of(end - begin) - chosen.count;
        multiply(packed(panels), panels + bytes, chosen, begin > 0, sums, {});
        if (end == d) break;
      }
      finish(sums, to, i, j);
    }
  std::free(panels);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = biased ? bias.at(0, j) : 0, size = std::fabs(want);
      for (int64_t k = 0; k < d; ++k) want += l(i, k) * r(k, j), size += std::fabs(l(i, k) * r(k, j));
      const double got = wide(reinterpret_cast<const uint8_t*>(&out[i * (n + 1) + j]));
      const bool right_one =
          masks && !mask.live(i, j) ? got == 0 : std::fabs(got - want) <= std::fabs(want) / 256 + size * 1e-6;
      if (!right_one)
        std::printf("[%ld][%ld] of %ld x %ld, depth %ld: %g, not %g\n", i, j, m, n, d, got, want), std::exit(1);
      ++checked;
    }
    if (out[i * (n + 1) + n] != 0x1234) std::puts("written past the last column"), std::exit(1);
  }
}

}  // namespace

int main() {
  const int64_t sizes[][3] = {{1, 1, 1},    {32, 32, 32}, {33, 31, 65}, {64, 40, 96},
                              {7, 100, 33}, {70, 64, 5},  {3, 3, 0}};
  for (const auto& [m, n, k] : sizes) {
    const Matrix x(m, k, true), w(n, k, false), dy(m, n, false), plain(m, k, false);
    for (const bool biased : {false, true})
      check(
          m, n, k, x, w, left_rows, right_across, Order::kPlain, Order::kPlain, false, biased,
          [&](int64_t i, int64_t d) { return x.at(i, d); }, [&](int64_t d, int64_t j) { return w.at(j, d); });
    for (const bool masks : {false, true})
      check(
          m, k, n, dy, w, left_rows, right_rows, Order::kPlain, Order::kPaired, masks, false,
          [&](int64_t i, int64_t d) { return dy.at(i, d); }, [&](int64_t d, int64_t j) { return w.at(d, j); });
    for (const Matrix* one : {&x, &plain})
      check(
          n, k, m, dy, *one, left_across, right_rows, Order::kPaired, Order::kPaired, false, false,
          [&](int64_t i, int64_t d) { return dy.at(d, i); }, [&](int64_t d, int64_t j) { return one->at(d, j); });
  }
  std::printf("checked %ld, skipped %ld\n", checked, skipped);
}
