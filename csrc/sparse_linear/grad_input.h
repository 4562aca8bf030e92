// dX: tiles of rows x words of columns, each sampled by one thread.
#pragma once

#include "forward.h"

namespace dmt::sparse_linear {

inline void grad_input_tiles(const Steps& steps, const Matrix& grad, const Matrix& bits, const Matrix& weight,
                             double live, const Matrix& out) {
  const int64_t columns = weight.columns, outputs = weight.rows, sum = steps.sum_bytes;
  const int64_t weight_bytes = outputs * columns * sum;
  const GradInputTiling tiling = grad_input_tiling(live, grad.rows, weight_bytes, outputs % steps.broad.block == 0);
  const Blocking& blocking = steps.of(tiling.width);
  const int64_t block = blocking.block, tall = tiling.rows;
  const int64_t blocks = parts(outputs, block), tiles = parts(grad.rows, tall);
  const bool in_place = static_cast<int64_t>(out.owner.element_size()) == sum && outputs % block == 0;
  std::optional<Scratch> packed;
  if (tiles > 1) packed.emplace(pack_weight(steps, blocking, weight));
  // Words of one job: less than four where threads would have nothing to do.
  const int64_t wide = std::clamp<int64_t>(bits.columns * tiles / (2 * thread_count()), 1, 4);
  const int64_t jobs = parts(bits.columns, wide);
  torch::stable::parallel_for(0, tiles * jobs, 1, [&](int64_t begin, int64_t end) {
    const int64_t most = std::min(tall, grad.rows);
    const Scratch partial(Scratch::kSums, most * 64 * steps.vector_bytes(), out.owner);
    std::optional<Scratch> scratch;
    if (!in_place) scratch.emplace(Scratch::kGrad, blocks * most * block * sum, out.owner);
    GradInput g{};
    g.bits = bits.words(), g.bits_stride = bits.stride;
    g.grad = grad.data, g.grad_stride = grad.stride;
    g.packed = packed ? packed->data() : nullptr;
    g.weight = weight.data, g.weight_stride = weight.stride;
    g.grad_x = out.data, g.grad_x_stride = out.stride;
    g.columns = columns, g.outputs = outputs;
    g.fetches = packed && !stays_near(weight_bytes);
    g.ordered = order_pays(live, grad.rows, weight_bytes);
    g.partial = partial.data();
    g.scratch = scratch ? scratch->data() : nullptr;
    for (int64_t i = begin; i < end; ++i) {
      g.begin = i / jobs * tall, g.end = std::min(grad.rows, g.begin + tall);
      g.word_begin = i % jobs * wide, g.word_end = std::min(bits.columns, g.word_begin + wide);
      blocking.grad_input(g);
    }
  });
}

}  // namespace dmt::sparse_linear
