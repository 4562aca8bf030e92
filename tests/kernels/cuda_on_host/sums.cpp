// The CUDA sums of csrc/threshold_ema/sum_kernel.cuh against the rule of reference.abs_sums, written as loops: what is
// added in double is equal to the bit, so both sums differ by the rounding of doubles alone. Prints what was checked.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "threshold_ema/sum_kernel.cuh"

using namespace dmt;

namespace {

int checked = 0;

template <class T>
double by_the_rule(const T* x, int64_t rows, int64_t width, int64_t stride, double* count) {
  using A = typename Arithmetic<T>::A;
  double total = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t first = 0; first < width; first += kColumns) {
      A a[kColumns] = {};
      for (int64_t c = first; c < width && c < first + kColumns; ++c) {
        const A size = std::fabs(widen(x[r * stride + c]));
        if (!std::isfinite(size)) continue;
        a[c - first] = size;
        ++*count;
      }
      for (int half = 32; half >= 8; half /= 2)
        for (int c = 0; c < half; ++c) a[c] += a[c + half];
      for (int c = 0; c < 8; ++c) total += static_cast<double>(a[c]);
    }
  return total;
}

template <class T>
void check(int64_t rows, int64_t width, int64_t stride, int64_t offset, unsigned blocks, const char* type) {
  std::mt19937 random(0);
  std::normal_distribution<double> normal;
  std::unique_ptr<int4[]> held(new int4[static_cast<size_t>((offset + rows * stride + 1) * sizeof(T) / 16 + 1)]);
  T* x = reinterpret_cast<T*>(held.get()) + offset;
  for (int64_t i = 0; i < rows * stride; ++i) x[i] = narrow<T>(normal(random));
  if (rows * width > 30) x[3] = narrow<T>(double(NAN)), x[(rows - 1) * stride + width / 2] = narrow<T>(-INFINITY);
  std::vector<double2> partial(blocks, {NAN, NAN});
  launch({blocks, 1, 1}, kThreads, [&] { sum_kernel<T>(x, rows, width, stride, partial.data()); });
  double sum = 0, count = 0, expected_count = 0;
  for (const double2& p : partial) sum += p.x, count += p.y;
  const double expected = by_the_rule(x, rows, width, stride, &expected_count);
  if (!(std::fabs(sum - expected) <= 1e-13 * expected && count == expected_count)) {  // true for NaN
    std::printf("%s %ld x %ld: sum %.17g of %g, expected %.17g of %g\n", type, static_cast<long>(rows),
                static_cast<long>(width), sum, count, expected, expected_count);
    std::exit(1);
  }
  ++checked;
}

template <class T>
void check_all(const char* type) {
  check<T>(1, 1, 1, 0, 1, type);
  check<T>(0, 64, 64, 0, 1, type);
  check<T>(5, 64, 64, 0, 2, type);     // 16 bytes at a time
  check<T>(37, 128, 136, 0, 3, type);  // rows with gaps, at aligned places
  check<T>(37, 72, 72, 0, 3, type);    // a word that ends early
  check<T>(37, 70, 71, 0, 2, type);    // one element at a time
  check<T>(9, 192, 192, 1, 2, type);   // the start is not aligned
}

}  // namespace

int main() {
  check_all<float>("float32");
  check_all<double>("float64");
  check_all<BFloat16>("bfloat16");
  std::printf("checked %d\n", checked);
}
