// csrc/hopper/product_kernel.cuh, a block at a time, against sums in double. Prints what was checked.
#include "hopper/product_kernel.cuh"

#include <random>

using namespace dmt::hopper;

namespace {

int checked = 0;

struct Matrix {
  int rows, columns, stride;
  std::vector<__nv_bfloat16> data;
  Matrix(int rows, int columns, int stride, uint16_t fill = 0x7fc0)  // NaN
      : rows(rows), columns(columns), stride(stride), data(static_cast<size_t>(rows) * stride + 8, {fill}) {}
  __nv_bfloat16& at(int r, int c) { return data[static_cast<size_t>(r) * stride + c]; }
  CUtensorMap map(int box_rows) const { return {data.data(), rows, columns, stride, box_rows}; }
};

struct Problem {
  int m, k, n, stages, blocks;
};

enum class Kind { elements, tiles, mixed, none };

void expect_near(__nv_bfloat16 got, double wanted, double size, const char* what, int r, int c) {
  ++checked;
  if (std::fabs(wide(got.bits) - wanted) <= 1e-5 * size + 0.0041 * std::fabs(wanted)) return;  // false for NaN
  std::printf("%s at %d, %d: got %g, expected %g\n", what, r, c, wide(got.bits), wanted);
  std::exit(1);
}

template <bool kInput, int kColumns>
void run(const Problem& p, Kind kind, bool listed) {
  std::mt19937 random(p.m + 7 * p.k);
  std::normal_distribution<float> normal;
  const int words = ((kInput ? p.n : p.k) + 63) / 64, masked = kInput ? p.n : p.k;
  std::vector<uint64_t> bits(p.m * words, 0);
  const auto live = [&](int r, int c) { return bits[r * words + c / 64] >> (c % 64) & 1; };
  for (int r = 0; r < p.m; ++r)
    for (int c = 0; c < masked; ++c) {
      const unsigned tile = (r / 64 * 5 + c / 64 * 3) % 4;
      const bool some = random() % 2;
      const bool alive = kind == Kind::elements ? some
                         : kind == Kind::tiles  ? tile % 2 == 0
                         : kind == Kind::mixed  ? tile > 1 || (tile == 1 && some)
                                                : false;
      if (alive) bits[r * words + c / 64] |= uint64_t{1} << (c % 64);
    }
  // y [m, n] = x [m, k] by weight [n, k]; dX [m, n] = grad [m, k] by weight [k, n].
  Matrix left(p.m, p.k, p.k + 8), weight(kInput ? p.k : p.n, kInput ? p.n : p.k, (kInput ? p.n : p.k) + 8);
  for (int r = 0; r < p.m; ++r)
    for (int c = 0; c < p.k; ++c)
      if (kInput || live(r, c)) left.at(r, c) = {rounded(normal(random))};
  for (int r = 0; r < weight.rows; ++r)
    for (int c = 0; c < weight.columns; ++c) weight.at(r, c) = {rounded(normal(random))};
  std::vector<__nv_bfloat16> bias(p.n);
  for (auto& b : bias) b = {rounded(normal(random))};

  const int strips = (p.m + 63) / 64;
  std::vector<Strip> found(strips, {~0ull, ~0ull});
  if (listed)
    launch({static_cast<unsigned>(strips), 1, 1}, 256, [&] {
      strips_kernel(reinterpret_cast<const uint2*>(bits.data()), p.m, masked, words, found.data());
    });
  Arguments a{};
  a.rows = p.m;
  a.panels = (p.n + kColumns - 1) / kColumns;
  a.items = (p.m + 127) / 128 * a.panels;
  a.depth = (p.k + 63) / 64;
  a.columns = p.n;
  a.stages = p.stages;
  a.strips = listed ? found.data() : nullptr;
  a.bits = reinterpret_cast<const uint2*>(bits.data());
  a.words = words;
  a.bias = kInput ? nullptr : bias.data();
  Matrix out(p.m, p.n, p.n);
  const CUtensorMap l = left.map(64), r = weight.map(kInput ? 64 : kColumns);
  launch({static_cast<unsigned>(p.blocks), 1, 1}, kThreads,
         [&] { product_kernel<__nv_bfloat16, kInput, kColumns>(l, r, out.data.data(), a); });

  for (int i = 0; i < p.m; ++i)
    for (int j = 0; j < p.n; ++j) {
      double sum = kInput ? 0 : wide(bias[j].bits), size = 1;
      for (int t = 0; t < p.k; ++t) {
        if (kInput ? !live(i, j) : !live(i, t)) continue;
        const double term = wide(left.at(i, t).bits) * wide((kInput ? weight.at(t, j) : weight.at(j, t)).bits);
        sum += term, size += std::fabs(term);
      }
      if (kInput && !live(i, j) && out.at(i, j).bits != 0) fail("something dead in dX is not zero");
      expect_near(out.at(i, j), sum, size, kInput ? "dX" : "y", i, j);
    }
}

}  // namespace

int main() {
  const Problem odd{150, 136, 72, 2, 2}, long_sum{70, 520, 136, 3, 1}, one{1, 8, 8, 1, 1};
  for (const Problem& p : {odd, long_sum, one}) {
    run<false, 64>(p, Kind::elements, false);
    run<false, 64>(p, Kind::mixed, true);
    run<true, 64>(p, Kind::elements, false);
  }
  run<false, 128>(long_sum, Kind::tiles, true);
  run<false, 256>({200, 200, 264, 2, 1}, Kind::mixed, true);
  run<true, 128>({200, 72, 136, 2, 1}, Kind::mixed, false);
  run<true, 256>({130, 72, 264, 2, 1}, Kind::mixed, false);
  run<false, 64>(odd, Kind::none, true);
  std::printf("checked %d\n", checked);
}
