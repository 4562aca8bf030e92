// y: tiles of rows x blocks of outputs, each summed by one thread.
#pragma once

#include <algorithm>
#include <optional>

#include "../scratch.h"
#include "choice.h"
#include "matrix.h"

namespace dmt::sparse_linear {

inline int64_t parts(int64_t all, int64_t one) { return (all + one - 1) / one; }

// Every block of the weight [N, K] as [K][block].
inline Scratch pack_weight(const Steps& steps, const Blocking& blocking, const Matrix& weight) {
  const int64_t bytes = static_cast<int64_t>(weight.owner.element_size()), sum = steps.sum_bytes;
  const int64_t outputs = weight.rows, columns = weight.columns, block = blocking.block;
  const int64_t blocks = parts(outputs, block), chunk = 128, chunks = parts(columns, chunk);
  const Scratch packed(Scratch::kPacked, blocks * columns * block * sum, weight.owner);
  char* to = packed.data();
  torch::stable::parallel_for(0, blocks * chunks, 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / chunks, c = i % chunks * chunk;
      blocking.pack_transposed(weight.at(b * block, c, bytes), weight.stride, std::min(block, outputs - b * block),
                               std::min(chunk, columns - c), to + (b * columns + c) * block * sum);
    }
  });
  return packed;
}

// The sums of one tile of rows and one block of outputs. Where this tile is the only one, each piece of the weight is
// packed when its turn comes: it then goes from the first-level cache into the product.
struct Forward {
  const Steps& steps;
  const Blocking& blocking;
  const Matrix &x, &bits, &weight, &y;
  const char* bias;
  const char* packed;  // the whole weight, or null
  int64_t rows, words_at_once, bytes;
  bool fetches;  // the packed weight does not stay in the second-level cache

  // The rows of a tile by what is live in the first of the words that are summed at once.
  void sort(int64_t tile, uint8_t* order) const {
    const int64_t begin = tile * rows, tall = std::min(rows, x.rows - begin);
    for (int64_t w = 0; w < bits.columns; w += words_at_once)
      steps.order_rows(bits.words() + begin * bits.stride + w, bits.stride, tall, valid_bits(w, x.columns), 0,
                       order + w * kRows);
  }

  // order: null where rows go in turn.
  void run(int64_t tile, int64_t b, const uint8_t* order) const {
    alignas(64) char sums[kRows * 128 * sizeof(float)];
    alignas(64) char piece[4 * 64 * 128 * sizeof(float)];
    const int64_t block = blocking.block, sum = steps.sum_bytes;
    Accumulate a{};
    a.bits = bits.words(), a.bits_stride = bits.stride;
    a.x = x.data, a.x_stride = x.stride;
    a.packed = packed ? packed + b * x.columns * block * sum : piece;
    a.sums = sums;
    a.bias = bias ? bias + b * block * bytes : nullptr;
    a.y = y.at(0, b * block, bytes), a.y_stride = y.stride;
    a.begin = tile * rows, a.end = std::min(x.rows, a.begin + rows);
    a.columns = x.columns, a.outputs = std::min(block, weight.rows - b * block);
    a.far = b == 0 || fetches;
    for (int64_t w = 0; w == 0 || w < bits.columns; w += words_at_once) {
      a.word_begin = w, a.word_end = std::min(bits.columns, w + words_at_once);
      if (fetches) a.ahead = share_of_lines((a.word_end - w) * 64 * block * sum, a.end - a.begin);
      a.order = order ? order + w * kRows : nullptr;
      a.first = w == 0, a.last = a.word_end == bits.columns;
      if (!packed) {
        const int64_t wide = std::min(x.columns - w * 64, words_at_once * 64);
        blocking.pack_transposed(weight.at(b * block, w * 64, bytes), weight.stride, a.outputs, wide, piece);
        a.packed_word = w;
      }
      blocking.accumulate(a);
    }
  }
};

inline void forward_tiles(const Steps& steps, const Matrix& x, const Matrix& bits, const Matrix& weight,
                          const void* bias, double live, const Matrix& y) {
  const int64_t threads = thread_count();
  const int64_t weight_bytes = weight.rows * weight.columns * steps.sum_bytes;
  const ForwardTiling tiling = forward_tiling(live, x.rows, weight_bytes);
  const Blocking& blocking = steps.of(tiling.width);
  const int64_t blocks = parts(weight.rows, blocking.block);
  int64_t tall = tiling.rows;  // less where threads would have nothing to do
  while (tall > 32 && parts(x.rows, tall) * blocks < threads) tall /= 2;
  const int64_t tiles = parts(x.rows, tall);
  std::optional<Scratch> packed;
  if (tiles > 1) packed.emplace(pack_weight(steps, blocking, weight));
  const Forward job{steps,
                    blocking,
                    x,
                    bits,
                    weight,
                    y,
                    static_cast<const char*>(bias),
                    packed ? packed->data() : nullptr,
                    tall,
                    tiling.words,
                    static_cast<int64_t>(y.owner.element_size()),
                    packed && !stays_near(weight_bytes)};
  const bool ordered = bits.columns > 0 && order_pays(live, x.rows, weight_bytes);
  torch::stable::parallel_for(0, tiles * blocks, 1, [&](int64_t begin, int64_t end) {
    const Scratch kept(Scratch::kOrder, ordered ? bits.columns * kRows : 0, y.owner);
    uint8_t* const order = ordered ? reinterpret_cast<uint8_t*>(kept.data()) : nullptr;
    for (int64_t i = begin; i < end; ++i) {
      if (ordered && (i == begin || i % blocks == 0)) job.sort(i / blocks, order);
      job.run(i / blocks, i % blocks, order);
    }
  });
}

}  // namespace dmt::sparse_linear
