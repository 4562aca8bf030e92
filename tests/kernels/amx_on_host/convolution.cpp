// The steps of convolutions on matrix tiles, and where they find their pixels, against plain sums, with loops in place
// of the tiles. Prints how many numbers were checked.
#define DMT_AMX_ON_HOST
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "amx/convolve.h"
#include "tile_conv2d/plan.h"

using namespace dmt::amx;
using namespace dmt::tile_conv2d;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
int64_t checked = 0;

float number() { return std::ldexp(std::rand() / float(RAND_MAX) - 0.5f, std::rand() % 9 - 4); }

// What stands for a number in so many parts.
double seen(float x, int parts) {
  double sum = 0;
  float rest = x;
  for (int p = 0; p < parts; ++p) {
    uint32_t bits;
    std::memcpy(&bits, &rest, 4);
    bits = (bits + 0x8000) & 0xffff0000u;
    float part;
    std::memcpy(&part, &bits, 4);
    sum += part, rest -= part;
  }
  return sum;
}

struct Case {
  int64_t height, width, channels, outputs, stride, row_gap;
  std::vector<Tap> taps;
  bool affine, add;
};

// Packed: [steps][parts][2 halves][16][16 columns][2], from kernels [taps][outputs][channels].
std::vector<uint16_t> panel(const Case& c, const std::vector<float>& kernels, int64_t first, int parts) {
  std::vector<uint16_t> to;
  for (int64_t b = 0; b < steps_of(c.channels); ++b)
    for (size_t t = 0; t < c.taps.size(); ++t)
      for (int part = 0; part < parts; ++part)
        for (int64_t i = 0; i < 1024; ++i) {
          const int64_t o = first + i / 512 * 16 + i / 2 % 16, ch = b * 32 + i / 32 % 16 + i % 2 * 16;
          float rest = o < c.outputs && ch < c.channels ? kernels[(t * c.outputs + o) * c.channels + ch] : 0;
          uint32_t bits = 0;
          for (int p = 0; p <= part; ++p) {
            std::memcpy(&bits, &rest, 4);
            bits = (bits + 0x8000) & 0xffff0000u;
            float high;
            std::memcpy(&high, &bits, 4);
            rest -= high;
          }
          to.push_back(static_cast<uint16_t>(bits >> 16));
        }
  return to;
}

char* aligned(int64_t bytes) { return static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)); }

template <int Parts>
void check(const Case& c) {
  const ConvolutionSteps& steps = convolution::kSteps<Parts>;
  const int64_t rows = (c.height + c.stride - 1) / c.stride, columns = (c.width + c.stride - 1) / c.stride;
  const int64_t row = c.width * c.channels + c.row_gap;
  std::vector<float> x(c.height * row + 1, kNan), kernels, bias, scale, shift, add;
  for (int64_t y = 0; y < c.height; ++y)
    for (int64_t i = 0; i < c.width * c.channels; ++i) x[y * row + i] = number();
  for (size_t i = 0; i < c.taps.size() * c.outputs * c.channels; ++i) kernels.push_back(number());
  for (int64_t o = 0; o < c.outputs; ++o) bias.push_back(number());
  for (int64_t i = 0; i < c.channels; ++i) scale.push_back(number()), shift.push_back(number());
  for (int64_t i = 0; i < rows * columns * c.outputs; ++i) add.push_back(number());

  const Layout layout(c.height, c.width, c.channels, c.stride, Parts, rows, columns, c.taps);
  char* const packed = aligned(layout.bytes());
  std::fill(reinterpret_cast<uint16_t*>(packed), reinterpret_cast<uint16_t*>(packed + layout.bytes()), 0x7fc0);  // NaN
  const Affine before{c.affine ? scale.data() : nullptr, shift.data(), 0.25f};
  const Packer packer(steps, layout, {x.data(), row, c.channels}, before, packed);
  for (int64_t r = 0; r < layout.rows; ++r) packer.row(r);

  std::vector<float> y(rows * columns * c.outputs, kNan);
  std::vector<double> moments(panels_of(c.outputs) * 64, 0.0);
  std::vector<int64_t> places;
  for (int64_t b = 0; b < layout.blocks; ++b)
    for (const Tap& tap : c.taps) places.push_back(layout.place(tap, b));
  alignas(64) float sums[kBlock];
  for (int64_t o = 0; o < c.outputs; o += kSide) {
    const std::vector<uint16_t> right = panel(c, kernels, o, Parts);
    for (int64_t q = 0; q < layout.positions(); q += kSide) {
      int64_t at[kSide];
      for (int64_t r = 0; r < kSide; ++r) {
        const int64_t i = (q + r) / layout.columns, j = (q + r) % layout.columns;
        at[r] = i < rows && j < columns ? (i * columns + j) * c.outputs : -1;
      }
      steps.multiply(packed + q * 64, places.data(), static_cast<int64_t>(places.size()), layout.part,
                     reinterpret_cast<const char*>(right.data()), sums);
      steps.finish(sums, {y.data() + o, bias.data() + o, c.add ? add.data() + o : nullptr, at, c.outputs - o,
                          moments.data() + o / kSide * 64, false});
    }
  }

  for (int64_t o = 0; o < c.outputs; ++o) {
    double total = 0, squares = 0;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t at = (i * columns + j) * c.outputs + o;
        double sum = bias[o] + (c.add ? add[at] : 0), size = std::abs(sum);
        for (size_t t = 0; t < c.taps.size(); ++t) {
          const int64_t v = i * c.stride + c.taps[t].y, u = j * c.stride + c.taps[t].x;
          if (v < 0 || v >= c.height || u < 0 || u >= c.width) continue;
          for (int64_t ch = 0; ch < c.channels; ++ch) {
            float value = x[v * row + u * c.channels + ch];
            if (c.affine) value = std::fma(value, scale[ch], shift[ch]), value *= value < 0 ? 0.25f : 1;
            const double term = seen(value, Parts) * seen(kernels[(t * c.outputs + o) * c.channels + ch], Parts);
            sum += term, size += std::abs(term);
          }
        }
        // Of two and three parts, the products of the smaller ones are left away.
        const double bound = Parts == 2 ? 2e-5 : 2e-6;
        if (!(std::abs(y[at] - sum) <= bound * size)) {
          std::printf("%d parts, output %d at %d, %d: %g for %g\n", Parts, int(o), int(i), int(j), y[at], sum);
          std::exit(1);
        }
        total += y[at], squares += double(y[at]) * y[at], ++checked;
      }
    const double* const found = &moments[o / kSide * 64 + o % kSide];
    if (std::abs(found[0] - total) > 1e-9 * squares + 1e-9 || std::abs(found[32] - squares) > 1e-12 * squares) {
      std::printf("%d parts, output %d: moments %g, %g for %g, %g\n", Parts, int(o), found[0], found[32], total,
                  squares);
      std::exit(1);
    }
  }
  std::free(packed);
}

}  // namespace

int main() {
  const std::vector<Tap> three = {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 0}, {0, 1}, {1, -1}, {1, 0}, {1, 1}};
  const Case cases[] = {
      {7, 9, 32, 32, 1, 0, three, false, false},
      {5, 40, 45, 50, 1, 3, three, true, true},
      {8, 6, 70, 33, 2, 0, {{-1, -1}, {-1, 2}, {0, 0}, {2, 1}}, true, false},
      {9, 11, 3, 5, 3, 1, {{-2, 4}, {0, 0}, {5, -1}}, false, true},
      {1, 1, 1, 1, 1, 0, {{0, 0}}, false, false},
      {4, 3, 16, 16, 1, 0, {{-9, 0}, {0, 0}, {0, 8}}, true, false},  // taps that see nothing
  };
  for (const Case& c : cases) check<1>(c), check<2>(c), check<3>(c);
  std::printf("checked %ld numbers\n", long(checked));
  return 0;
}
