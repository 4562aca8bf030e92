// tile_conv2d on the CPU: a convolution of float32 on matrix tiles (AMX), whose weight is packed already. The picture
// is split into parts of bfloat16 once, so laid out that every tap reads it where it lies (plan.h); 32 pixels times 32
// outputs are one block of sums.
#include <tuple>

#include "../amx/tile.h"
#include "../common.h"
#include "../scratch.h"
#include "plan.h"

namespace dmt::tile_conv2d {
namespace {

CallCounter calls("tile_conv2d");
constexpr int64_t kNear = 1 << 20;  // bytes of weight that stay in the second-level cache
constexpr int64_t kChunk = 32;      // blocks that a thread takes at once, whose moments are one sum
constexpr int64_t kMoments = 2 * amx::kSide;

using Ints = std::vector<int64_t>;

// What the weight is for: taps (y, x) of all phases one behind the other; phase p has the first ends[p] but for those
// of earlier ones. y [B, height, width, outputs], in grid positions of up x up pixels, one of each phase.
struct Job {
  int64_t outputs, stride, up, height, width;
  std::vector<Tap> taps;
  Ints ends;
  int64_t grid_rows() const { return (height + up - 1) / up; }
  int64_t grid_columns() const { return (width + up - 1) / up; }
};

// One picture of the result.
struct Target {
  float* y;
  const float *bias, *add;
  bool stream;
};

class Convolution {
 public:
  Convolution(const Job& job, const Layout& layout, const amx::ConvolutionSteps& steps, const char* weight)
      : job_(job), layout_(layout), steps_(steps), weight_(weight) {
    // Taps of the same channels follow each other: they read the same lines.
    int64_t first = 0;
    for (const int64_t end : job.ends) {
      for (int64_t b = 0; b < layout.blocks; ++b)
        for (int64_t t = first; t < end; ++t) places_.push_back(layout.place(job.taps[t], b));
      first = end;
    }
    panels_ = amx::panels_of(job.outputs);
    panel_bytes_ = static_cast<int64_t>(places_.size()) * step_bytes();
    blocks_ = amx::panels_of(layout.positions()), chunks_ = (blocks_ - 1) / kChunk + 1;
  }

  int64_t moments() const { return chunks_ * panels_ * kMoments; }

  // moments: [chunks][panels][2][32], or null.
  void run(const char* packed, const Target& to, double* moments) const {
    const int64_t near = std::clamp<int64_t>(kNear / panel_bytes_, 1, panels_), groups = (panels_ - 1) / near + 1;
    torch::stable::parallel_for(0, groups * chunks_, 1, [&](int64_t from, int64_t until) {
      const amx::Tiles tiles;
      for (int64_t task = from; task < until; ++task) {
        const int64_t begin = task / chunks_ * near, end = std::min(begin + near, panels_), chunk = task % chunks_;
        double* const sums = moments ? moments + chunk * panels_ * kMoments : nullptr;
        if (sums) std::fill(sums + begin * kMoments, sums + end * kMoments, 0.0);
        for (int64_t block = chunk * kChunk; block < std::min((chunk + 1) * kChunk, blocks_); ++block)
          multiply(packed, block, begin, end, to, sums);
      }
    });
  }

  // Means and variances of the outputs, from the moments.
  void measure(const double* moments, float* mean, float* variance) const {
    const double count = static_cast<double>(job_.height * job_.width);
    for (int64_t o = 0; o < job_.outputs; ++o) {
      const double* at = moments + o / amx::kSide * kMoments + o % amx::kSide;
      double sum = 0, squares = 0;
      for (int64_t c = 0; c < chunks_; ++c, at += panels_ * kMoments) sum += at[0], squares += at[amx::kSide];
      const double middle = sum / count;
      mean[o] = static_cast<float>(middle);
      variance[o] = static_cast<float>(std::max(squares / count - middle * middle, 0.0));
    }
  }

 private:
  int64_t step_bytes() const { return layout_.parts * amx::kPartBytes; }

  void multiply(const char* packed, int64_t block, int64_t begin, int64_t end, const Target& to,
                double* moments) const {
    alignas(64) float sums[amx::kBlock];
    int64_t at[amx::kSide];
    const char* const left = packed + block * amx::kSide * 64;
    for (size_t phase = 0; phase < job_.ends.size(); ++phase) {
      const int64_t from = phase == 0 ? 0 : job_.ends[phase - 1] * layout_.blocks;
      const int64_t count = job_.ends[phase] * layout_.blocks - from;
      if (!find(block * amx::kSide, static_cast<int64_t>(phase), at)) continue;
      for (int64_t panel = begin; panel < end; ++panel) {
        const char* const right = weight_ + panel * panel_bytes_ + from * step_bytes();
        const int64_t o = panel * amx::kSide;
        steps_.multiply(left, places_.data() + from, count, layout_.part, right, sums);
        steps_.finish(sums, {to.y + o, to.bias ? to.bias + o : nullptr, to.add ? to.add + o : nullptr, at,
                             job_.outputs - o, moments ? moments + panel * kMoments : nullptr, to.stream});
      }
    }
  }

  // Where the results of 32 positions go, -1 for those that are none; false if none is one.
  bool find(int64_t first, int64_t phase, int64_t* at) const {
    bool any = false;
    int64_t row = first / layout_.columns, column = first % layout_.columns;
    for (int64_t r = 0; r < amx::kSide; ++r) {
      const int64_t i = row * job_.up + phase / job_.up, j = column * job_.up + phase % job_.up;
      const bool there = column < layout_.grid_columns && i < job_.height && j < job_.width;
      at[r] = there ? (i * job_.width + j) * job_.outputs : -1;
      any |= there;
      if (++column == layout_.columns) column = 0, ++row;
    }
    return any;
  }

  const Job& job_;
  const Layout& layout_;
  const amx::ConvolutionSteps& steps_;
  const char* weight_;
  Ints places_;
  int64_t panels_, panel_bytes_, blocks_, chunks_;
};

Job job_of(int64_t outputs, const Ints& taps, const Ints& ends, int64_t stride, int64_t up, const Ints& size) {
  const bool sizes = outputs > 0 && stride > 0 && up > 0 && size.size() == 2 && size[0] > 0 && size[1] > 0;
  bool phases = sizes && static_cast<int64_t>(ends.size()) == up * up;
  for (size_t i = 0; phases && i < ends.size(); ++i) phases = ends[i] > (i == 0 ? 0 : ends[i - 1]);
  STD_TORCH_CHECK(phases && taps.size() == 2 * static_cast<size_t>(ends.back()),
                  "tile_conv2d: outputs, taps, phases and sizes do not fit one another");
  Job job{outputs, stride, up, size[0], size[1], {}, ends};
  for (size_t i = 0; i < taps.size(); i += 2) job.taps.push_back({taps[i], taps[i + 1]});
  return job;
}

bool is_float(const Tensor& t, int64_t count) {
  return t.scalar_type() == ScalarType::Float && t.is_cpu() && t.is_contiguous() && t.numel() == count;
}

const float* floats(const std::optional<Tensor>& t, int64_t offset = 0) {
  return t ? static_cast<const float*>(t->data_ptr()) + offset : nullptr;
}

void check(const Job& job, const Tensor& x, const Tensor& weight) {
  STD_TORCH_CHECK(isa() == Isa::amx, "tile_conv2d: this processor has no matrix tiles (AMX)");
  STD_TORCH_CHECK(x.dim() == 4 && x.scalar_type() == ScalarType::Float && x.size(1) * x.size(2) * x.size(3) > 0,
                  "tile_conv2d: expected x [B, H, W, C] of float32, not empty");
  const int64_t parts = weight.dim() == 7 ? weight.size(2) : 0, steps = job.ends.back() * amx::steps_of(x.size(3));
  STD_TORCH_CHECK(parts >= 1 && parts <= 3 && weight.scalar_type() == ScalarType::BFloat16 && weight.is_contiguous() &&
                      weight.is_cpu() && weight.size(0) == amx::panels_of(job.outputs) && weight.size(1) == steps &&
                      weight.numel() == weight.size(0) * steps * parts * amx::kPartBytes / 2,
                  "tile_conv2d: expected a weight packed for ", job.outputs, " outputs, ", x.size(3), " channels and ",
                  job.ends.back(), " taps");
}

// x [B, H, W, C], weight [panels, steps, parts, 2, 16, 16, 2] of bfloat16, scale and shift [B, C], add [B, *size,
// outputs]; y, and if `measured` mean and variance [B, outputs].
std::tuple<Tensor, Tensor, Tensor> tile_conv2d(const Tensor& x_, const Tensor& weight,
                                               const std::optional<Tensor>& bias, const std::optional<Tensor>& scale,
                                               const std::optional<Tensor>& shift, double slope,
                                               const std::optional<Tensor>& add, int64_t outputs, const Ints& taps,
                                               const Ints& ends, int64_t stride, int64_t up, const Ints& size,
                                               bool measured) {
  calls.add();
  const Job job = job_of(outputs, taps, ends, stride, up, size);
  check(job, x_, weight);
  const Tensor x = x_.stride(3) == 1 ? x_ : torch::stable::contiguous(x_);
  const int64_t batch = x.size(0), channels = x.size(3), pixels = job.height * job.width * outputs;
  STD_TORCH_CHECK(!bias || is_float(*bias, outputs), "tile_conv2d: expected a bias [", outputs, "] of float32");
  STD_TORCH_CHECK(scale.has_value() == shift.has_value() &&
                      (!scale || (is_float(*scale, batch * channels) && is_float(*shift, batch * channels))),
                  "tile_conv2d: expected scale and shift [", batch, ", ", channels, "] of float32, or neither");
  STD_TORCH_CHECK(!add || is_float(*add, batch * pixels), "tile_conv2d: expected what is added in the shape of y");
  const Tensor y = empty({batch, job.height, job.width, outputs}, ScalarType::Float, x);
  const Tensor mean = empty({measured ? batch : 0, outputs}, ScalarType::Float, x);
  const Tensor variance = empty({measured ? batch : 0, outputs}, ScalarType::Float, x);

  const amx::ConvolutionSteps& steps = *amx::convolution_steps(weight.size(2));
  const Layout layout(x.size(1), x.size(2), channels, stride, weight.size(2), job.grid_rows(), job.grid_columns(),
                      job.taps);
  const Convolution convolution(job, layout, steps, static_cast<const char*>(weight.data_ptr()));
  const Scratch packed(Scratch::kInput, layout.bytes(), x);
  const Scratch moments(Scratch::kSums, measured ? convolution.moments() * 8 : 0, x);
  double* const sums = measured ? reinterpret_cast<double*>(moments.data()) : nullptr;
  for (int64_t b = 0; b < batch; ++b) {
    const Picture picture{static_cast<const float*>(x.data_ptr()) + b * x.stride(0), x.stride(1), x.stride(2)};
    const amx::Affine before{floats(scale, b * channels), floats(shift, b * channels), static_cast<float>(slope)};
    const Packer packer(steps, layout, picture, before, packed.data());
    torch::stable::parallel_for(0, layout.rows, 1, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) packer.row(r);
    });
    float* const place = static_cast<float*>(y.data_ptr()) + b * pixels;
    const Target to{place, floats(bias), floats(add, b * pixels), amx::goes_past(place, pixels, outputs)};
    convolution.run(packed.data(), to, sums);
    if (measured)
      convolution.measure(sums, static_cast<float*>(mean.data_ptr()) + b * outputs,
                          static_cast<float*>(variance.data_ptr()) + b * outputs);
  }
  return {y, mean, variance};
}

}  // namespace
}  // namespace dmt::tile_conv2d

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) { m.impl("tile_conv2d", TORCH_BOX(&dmt::tile_conv2d::tile_conv2d)); }
