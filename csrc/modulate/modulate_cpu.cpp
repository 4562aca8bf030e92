// modulate on the CPU, with AVX-512: what happens to pixels between convolutions, in one pass.
#include "../amx/steps.h"
#include "../common.h"

namespace dmt::modulate {
namespace {

CallCounter calls("modulate");
constexpr int64_t kRun = 64;         // pixels whose channels are taken in turn: they stay in the first-level cache
constexpr int64_t kGrain = 1 << 14;  // numbers that a thread takes at least

const float* floats(const std::optional<Tensor>& t, int64_t offset) {
  return t ? static_cast<const float*>(t->data_ptr()) + offset : nullptr;
}

void check(const char* name, const Tensor& t, int64_t count) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float && t.is_cpu() && t.is_contiguous() && t.numel() == count,
                  "modulate: expected ", name, " of float32 in the shape of x, or [B, C]");
}

// x, other [B, H, W, C], scales and shifts [B, C].
Tensor modulate(const Tensor& x_, const Tensor& scale, const Tensor& shift, double slope,
                const std::optional<Tensor>& other, const std::optional<Tensor>& other_scale,
                const std::optional<Tensor>& other_shift, bool pooled) {
  calls.add();
  STD_TORCH_CHECK(isa() == Isa::amx, "modulate: this processor has no matrix tiles (AMX)");
  STD_TORCH_CHECK(x_.dim() == 4 && (!pooled || (!other && x_.size(1) % 2 == 0 && x_.size(2) % 2 == 0)),
                  "modulate: expected x [B, H, W, C], H and W even and nothing else if pooled");
  const Tensor x = as_contiguous(x_);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3), area = height * width;
  check("x", x, batch * area * channels), check("scale", scale, batch * channels);
  check("shift", shift, batch * channels);
  if (other) check("what is added", *other, batch * area * channels);
  if (other_scale && other_shift) check("its scale", *other_scale, batch * channels);
  if (other_scale && other_shift) check("its shift", *other_shift, batch * channels);
  const int64_t halves = pooled ? 2 : 1;
  const Tensor y = empty({batch, height / halves, width / halves, channels}, ScalarType::Float, x);
  if (batch * area * channels == 0) return y;
  const amx::ModulationSteps& steps = *amx::modulation_steps();
  const float leak = static_cast<float>(slope);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t of = b * channels, numbers = of * area;
    const int64_t written = numbers / (halves * halves);
    float* const to = static_cast<float*>(y.data_ptr()) + written;
    const amx::Modulation all{static_cast<const float*>(x.data_ptr()) + numbers,
                              floats(other, numbers),
                              to,
                              channels,
                              {floats(scale, of), floats(shift, of), leak},
                              {floats(other_scale, of), floats(other_shift, of), leak},
                              amx::goes_past(to, area * channels / (halves * halves), channels)};
    const int64_t row = pooled ? width / 2 : area, rows = pooled ? height / 2 : 1, runs = (row - 1) / kRun + 1;
    torch::stable::parallel_for(0, rows * runs, kGrain / (kRun * channels) + 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        const int64_t r = i / runs, first = i % runs * kRun, count = std::min(kRun, row - first);
        amx::Modulation part = all;
        part.y += (r * row + first) * channels;
        part.x += (2 * r * width * (halves - 1) + halves * first) * channels;
        if (part.other) part.other += first * channels;
        pooled ? steps.pool(part, width * channels, count) : steps.modulate(part, count);
      }
    });
  }
  return y;
}

}  // namespace
}  // namespace dmt::modulate

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) { m.impl("modulate", TORCH_BOX(&dmt::modulate::modulate)); }
