// The CUDA product of csrc/sparse_linear/tile_product.cuh in float32, against sums in double. Prints what was checked.
#include <mma.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "sparse_linear/tile_product.cuh"

using namespace dmt::sparse_linear;

namespace {

struct Output {
  float* y;
  const float* bias;
  int64_t stride;
  void write(int64_t i, int64_t j, float v) const { y[i * stride + j] = v + bias[j]; }
};
struct WhereLive {
  float* to;
  Mask mask;
  int64_t stride;
  void write(int64_t i, int64_t j, float v) const { to[i * stride + j] = mask.at(i, j) ? v : 0.0f; }
};
struct Part {
  float* parts;
  int64_t stride, size;
  void write(int64_t i, int64_t j, float v) const { parts[blockIdx.z * size + i * stride + j] = v; }
};

int checked = 0;

void expect(double got, double wanted, const char* what) {
  ++checked;
  if (std::fabs(got - wanted) <= 1e-4 + 1e-5 * std::fabs(wanted)) return;  // false for NaN
  std::printf("%s: got %g, expected %g\n", what, got, wanted);
  std::exit(1);
}

unsigned blocks(int size, int each = kTile) { return static_cast<unsigned>((size + each - 1) / each); }

Plain<float> plain(const std::vector<float>& data, int64_t stride, int64_t rows, int64_t columns) {
  const bool aligned = reinterpret_cast<uintptr_t>(data.data()) % 16 == 0 && stride % 4 == 0;
  return {data.data(), stride, rows, columns, aligned};
}

// M x K times N x K; x has rows `stride` apart and NaN where it is masked. `tiles`: every other tile is dead.
void check(int m, int k, int n, int stride, double live_share, float gather_below, bool tiles) {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  std::bernoulli_distribution alive(live_share);
  const int words = (k + 63) / 64;
  std::vector<uint64_t> bits(m * words, 0);
  std::vector<float> x(m * stride, NAN), weight(n * k), bias(n), grad(m * n);
  for (auto* values : {&weight, &bias, &grad})
    for (float& v : *values) v = normal(random);
  const auto live = [&](int r, int c) { return (bits[r * words + c / 64] >> (c % 64)) & 1; };
  for (int r = 0; r < m; ++r)
    for (int c = 0; c < k; ++c)
      if (tiles ? (r / 64 + c / 64) % 2 == 0 : alive(random)) {
        bits[r * words + c / 64] |= uint64_t{1} << (c % 64);
        x[r * stride + c] = normal(random);
      }
  if (k % 64)  // bits past the last column are ignored
    for (int r = 0; r < m; ++r) bits[r * words + words - 1] |= ~uint64_t{0} << (k % 64);

  const Mask mask{reinterpret_cast<const uint32_t*>(bits.data()), 2 * words};
  const LiveSquare square{mask, m, k};
  const auto px = plain(x, stride, m, k), pw = plain(weight, k, n, k), pg = plain(grad, n, m, n);
  const Masked<float> masked{px, mask};
  std::vector<float> y(m * n, NAN), dx(m * k, NAN);
  const GatherIfFew gather{mask, m, k, gather_below};

  launch({blocks(m), blocks(n), 1}, kThreads, [&] {
    const Transposed<Plain<float>> right{pw};
    const Output out{y.data(), bias.data(), n};
    const int64_t each = blocks(k, kDepth) * kDepth;
    if (tiles)
      product<float>(masked, right, LeftIsMasked{square}, NeverGather{}, out, m, n, k, each);
    else
      product<float>(masked, right, AlwaysLive{}, gather, out, m, n, k, each);
  });
  launch({blocks(m), blocks(k), 1}, kThreads, [&] {
    const WhereLive out{dx.data(), mask, k};
    const int64_t each = blocks(n, kDepth) * kDepth;
    if (tiles)
      product<float>(pg, pw, ResultIsMasked{square}, NeverGather{}, out, m, k, n, each);
    else
      product<float>(pg, pw, AlwaysLive{}, NeverGather{}, out, m, k, n, each);
  });
  const int each = static_cast<int>(blocks((m + 1) / 2, kDepth)) * kDepth;
  const unsigned parts = blocks(m, each);
  std::vector<float> dw(parts * n * k, NAN);
  launch({blocks(n), blocks(k), parts}, kThreads, [&] {
    const Transposed<Plain<float>> left{pg};
    const Part out{dw.data(), k, int64_t{n} * k};
    if (tiles)
      product<float>(left, masked, RightIsMasked{square}, NeverGather{}, out, n, k, m, each);
    else
      product<float>(left, masked, AlwaysLive{}, NeverGather{}, out, n, k, m, each);
  });

  for (int r = 0; r < m; ++r)
    for (int j = 0; j < n; ++j) {
      double sum = bias[j];
      for (int c = 0; c < k; ++c) sum += live(r, c) ? static_cast<double>(x[r * stride + c]) * weight[j * k + c] : 0.0;
      expect(y[r * n + j], sum, "y");
    }
  for (int r = 0; r < m; ++r)
    for (int c = 0; c < k; ++c) {
      double sum = 0;
      for (int j = 0; live(r, c) && j < n; ++j) sum += static_cast<double>(grad[r * n + j]) * weight[j * k + c];
      expect(dx[r * k + c], sum, "dX");
    }
  for (int j = 0; j < n; ++j)
    for (int c = 0; c < k; ++c) {
      double sum = 0, got = 0;
      for (int r = 0; r < m; ++r) sum += live(r, c) ? static_cast<double>(x[r * stride + c]) * grad[r * n + j] : 0.0;
      for (unsigned p = 0; p < parts; ++p) got += dw[(p * n + j) * k + c];
      expect(got, sum, "dW");
    }
}

}  // namespace

int main() {
  for (const float gather_below : {0.0f, 2.0f}) {  // never, always
    check(1, 1, 1, 1, 0.5, gather_below, false);
    check(33, 65, 63, 65, 0.4, gather_below, false);
    check(70, 132, 68, 132, 0.1, gather_below, false);
  }
  check(100, 70, 30, 80, 0.1, 0.1f, false);  // blocks of both kinds
  check(130, 140, 70, 143, 0.5, 0.0f, true);
  std::printf("checked %d\n", checked);
}
