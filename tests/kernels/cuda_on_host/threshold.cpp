// The CUDA kernels of csrc/threshold_ema against their meaning written as loops in double: mask, values, bits, live
// share, mu, statistics and eq. 10, and the gradients. The grid has one block, which then does the work of all.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "threshold_ema/backward_kernel.cuh"
#include "threshold_ema/step_kernel.cuh"

using namespace dmt;

namespace {

int checked = 0;

struct Problem {
  int64_t rows, width, stride, runs;
  bool per_feature, update;
};

void fail(const Problem& p, const char* what, double got, double expected) {
  std::printf("%ld x %ld, stride %ld, %ld runs: %s is %.9g, expected %.9g\n", static_cast<long>(p.rows),
              static_cast<long>(p.width), static_cast<long>(p.stride), static_cast<long>(p.runs), what, got, expected);
  std::exit(1);
}
void near(const Problem& p, const char* what, double got, double expected, double limit) {
  if (!(std::fabs(got - expected) <= limit * (1 + std::fabs(expected)))) fail(p, what, got, expected);
}

template <class T>
struct Data {
  std::vector<int4> room;  // 16 bytes each, so that packs are aligned
  explicit Data(int64_t count) : room(static_cast<size_t>(count * sizeof(T) / 16 + 2), {-1, -1, -1, -1}) {}
  T* get() { return reinterpret_cast<T*>(room.data()); }
};

template <class T>
void check(const Problem& p) {
  using A = typename Arithmetic<T>::A;
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  Data<T> x(p.rows * p.stride), grad(p.rows * p.width), values(p.rows * p.width), grad_x(p.rows * p.width);
  for (int64_t i = 0; i < p.rows * p.stride; ++i) x.get()[i] = narrow<T>(normal(random));
  for (int64_t i = 0; i < p.rows * p.width; ++i) grad.get()[i] = narrow<T>(normal(random));
  std::vector<float> theta(static_cast<size_t>(p.per_feature ? p.width : 1));
  for (float& t : theta) t = static_cast<float>(normal(random));
  float state[kStateSize] = {0.7f, 3, 0, 0}, next[kStateSize], moved[2 * kStateSize];
  const int64_t strips = std::max<int64_t>((p.width + 63) / 64, 1), padded = strips * kColumns;
  const Cut cut{p.rows, p.width, strips, p.runs};
  std::vector<double> partial(static_cast<size_t>(p.runs * kSums * padded), NAN),
      parts(static_cast<size_t>(strips), NAN);
  std::vector<unsigned> tickets(static_cast<size_t>(strips + 1), 99);
  std::vector<uint32_t> bits(static_cast<size_t>(p.rows * strips * 2 + 1), 99);
  std::vector<A> statistics(static_cast<size_t>(4 * p.width), A(NAN));
  unsigned long long live_count = 99;
  double2 block_sums[1];
  float live = NAN;
  A divergence = A(NAN);
  const Theta of{theta.data(), false, p.per_feature};

  StepArguments<T> a{};
  a.x = x.get(), a.cut = cut, a.stride = p.stride, a.theta = of, a.state = state, a.update = p.update;
  a.block_sums = block_sums, a.alpha = 0.9, a.values = values.get(), a.bits = bits.data(), a.live = &live;
  a.divergence = &divergence, a.next = next, a.moved = moved, a.moved_stride = 2, a.statistics = statistics.data();
  a.partial = partial.data(), a.strip_parts = parts.data(), a.counters = {&live_count, tickets.data()};
  launch({1, 1, 1}, kThreads, [&] { step_kernel<T, true>(a); });

  double sum = 0;
  for (int64_t r = 0; r < p.rows; ++r)
    for (int64_t c = 0; c < p.width; ++c) sum += std::fabs(static_cast<double>(widen(x.get()[r * p.stride + c])));
  const double mean = sum / static_cast<double>(p.rows * p.width);
  near(p, "mu", next[0], p.update && p.rows * p.width ? 0.9 * 0.7f + 0.1 * mean : 0.7f, 1e-6);
  near(p, "mu in place", moved[0], next[0], 0);
  const double mu = next[0];
  double kept = 0, total = 0, pull_all = 0;
  std::vector<double> pulls(static_cast<size_t>(p.width), 0);
  const A upstream = A(0.3);
  for (int64_t c = 0; c < p.width; ++c) {
    const double th = theta[static_cast<size_t>(p.per_feature ? c : 0)];
    const A t = static_cast<A>(sigmoid(th) * mu);
    double q[2] = {}, m[2] = {};
    for (int64_t r = 0; r < p.rows; ++r) {
      const A v = widen(x.get()[r * p.stride + c]);
      const bool is_live = std::fabs(v) > t;
      const double masked = is_live ? static_cast<double>(v) : 0;
      kept += is_live;
      if (((bits[static_cast<size_t>((r * strips + c / 64) * 2 + c % 64 / 32)] >> (c % 32)) & 1) != is_live)
        fail(p, "a bit", !is_live, is_live);
      near(p, "a value", static_cast<double>(widen(values.get()[r * p.width + c])), masked, 0);
      q[0] += v, q[1] += static_cast<double>(v) * v, m[0] += masked, m[1] += masked * masked;
    }
    const double n = static_cast<double>(std::max<int64_t>(p.rows, 1));
    const double s[4] = {q[0] / n, q[1] / n - q[0] / n * (q[0] / n), m[0] / n, m[1] / n - m[0] / n * (m[0] / n)};
    for (int k = 0; k < 4; ++k) near(p, "a statistic", statistics[static_cast<size_t>(k * p.width + c)], s[k], 1e-5);
    total += dmt::divergence(s[0], s[1], s[2], s[3]) / static_cast<double>(p.width);
  }
  near(p, "the live share", live, p.rows * p.width ? kept / static_cast<double>(p.rows * p.width) : 0, 1e-6);
  if (p.rows > 1) near(p, "eq. 10", divergence, total, 1e-4);

  std::vector<float> grad_theta(theta.size(), NAN);
  BackwardArguments<T> b{};
  b.grad = grad.get(), b.grad_information = &upstream, b.x = x.get(), b.cut = cut, b.stride = p.stride, b.theta = of;
  b.state = next, b.statistics = statistics.data(), b.grad_x = grad_x.get(), b.grad_theta = grad_theta.data();
  b.partial = partial.data(), b.tickets = tickets.data();
  for (const int form : {0, 1, 2, 3}) {
    if (p.width == 0 || p.rows < 2) continue;
    const bool information = form % 2;
    b.only_live = form / 2;
    b.values = b.only_live ? values.get() : nullptr;
    std::memset(values.room.data(), -1, values.room.size() * sizeof(int4));
    std::fill(tickets.begin(), tickets.end(), 0u);
    launch({static_cast<unsigned>(cut.items()), 1, 1}, kThreads,
           [&] { information ? backward_kernel<T, true>(b) : backward_kernel<T, false>(b); });
    pull_all = 0;
    for (int64_t c = 0; c < p.width; ++c) {
      const double th = theta[static_cast<size_t>(p.per_feature ? c : 0)];
      const A t = static_cast<A>(sigmoid(th) * mu);
      double k[kCoefficients], pull = 0;
      const A* s = statistics.data() + c;
      divergence_coefficients(s[0], s[p.width], s[2 * p.width], s[3 * p.width],
                              static_cast<double>(upstream) / static_cast<double>(p.rows * p.width), k);
      for (int64_t r = 0; r < p.rows; ++r) {
        const double v = static_cast<double>(widen(x.get()[r * p.stride + c])), size = std::fabs(v);
        double g = static_cast<double>(widen(grad.get()[r * p.width + c]));
        const bool is_live = static_cast<A>(size) > t;
        if (b.only_live && !is_live) g = 0;
        if (b.only_live)
          near(p, "x masked", static_cast<double>(widen(values.get()[r * p.width + c])), is_live ? v : 0, 0);
        if (information) g += k[0] + k[3] * ((is_live ? v : 0) - k[4]);
        double out = is_live ? g : 0;
        if (information) out += k[1] * (v - k[2]) - k[0];
        near(p, "a gradient", static_cast<double>(widen(grad_x.get()[r * p.width + c])), out,
             sizeof(T) == 2 ? 1e-2 : 1e-5);
        const double d = (size - t) / t, bump = 1 - d * d;
        if (bump > 0) pull += -15.0 / 16.0 / t * g * v * bump * bump;
      }
      if (p.per_feature)
        near(p, "a gradient to theta", grad_theta[static_cast<size_t>(c)], pull * threshold_slope(th, mu), 1e-4);
      pull_all += pull * threshold_slope(th, mu);
    }
    if (!p.per_feature) near(p, "the gradient to theta", grad_theta[0], pull_all, 1e-4);
  }
  ++checked;
}

template <class T>
void check_all() {
  check<T>({1, 1, 1, 1, false, true});
  check<T>({0, 64, 64, 1, false, true});
  check<T>({5, 0, 1, 1, false, true});
  check<T>({300, 64, 64, 1, false, true});     // more than is held, in one run
  check<T>({301, 136, 144, 3, true, true});    // runs, strips, gaps
  check<T>({77, 70, 71, 2, true, false});      // one element at a time
  check<T>({200, 200, 200, 4, false, false});  // a word that ends early
}

}  // namespace

int main() {
  check_all<float>();
  check_all<double>();
  check_all<BFloat16>();
  std::printf("checked %d\n", checked);
}
