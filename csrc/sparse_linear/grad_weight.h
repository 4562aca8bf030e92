// dW: parts of its columns x blocks of outputs, each summed by one thread.
#pragma once

#include "forward.h"

namespace dmt::sparse_linear {

// One chunk of rows of dY and x, laid out for `accumulate`: dY in blocks, the mask transposed, and x as well where it
// is not read where it lies.
struct Chunk {
  const Steps& steps;
  const Blocking& blocking;
  const Matrix &grad, &x, &bits;
  int64_t tall;                        // rows there is room for, a multiple of 64
  bool direct;                         // x is read where it lies
  int64_t part;                        // columns at a time
  int64_t group;                       // columns that are sorted by how many of their elements are live, or 0
  Scratch packed, across, transposed;  // sums [blocks][tall][block], sums [columns][tall], words [columns][tall / 64]
  Scratch sorted;                      // [tall / 64][columns]: their places in their parts

  Chunk(const Steps& s, const Blocking& b, const Matrix& g, const Matrix& x_, const Matrix& mask, bool in_place,
        int64_t columns_at_once, bool ordered)
      : steps(s),
        blocking(b),
        grad(g),
        x(x_),
        bits(mask),
        tall(std::min(kRows, dmt::words(x.rows) * 64)),
        direct(in_place),
        part(columns_at_once),
        group(ordered ? std::min<int64_t>(part, 64) : 0),
        packed(Scratch::kGrad, parts(grad.columns, b.block) * tall * b.block * s.sum_bytes, x.owner),
        across(Scratch::kInput, direct ? 0 : x.columns * tall * s.sum_bytes, x.owner),
        transposed(Scratch::kBits, x.columns * (tall / 64) * 8, x.owner),
        sorted(Scratch::kOrder, group ? x.columns * (tall / 64) : 0, x.owner) {}

  // Each thread has its share of the blocks and of the words: those it is going to read, where threads have whole
  // blocks. Where there is little to do, one does it all.
  void load(int64_t row, int64_t rows) const {
    const int64_t blocks = parts(grad.columns, blocking.block);
    const int64_t shares = rows * (grad.columns + x.columns) < 1 << 16 ? 1 : thread_count();
    torch::stable::parallel_for(0, shares, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin * blocks / shares; b < end * blocks / shares; ++b) load_block(row, rows, b);
      for (int64_t w = begin * bits.columns / shares; w < end * bits.columns / shares; ++w) load_word(row, rows, w);
    });
  }

  // Sums and outputs of one part of the columns and one block, still without words.
  Accumulate job(int64_t row, int64_t rows, int64_t b, int64_t begin, int64_t end, char* sums) const {
    Accumulate a{};
    a.bits = reinterpret_cast<const uint64_t*>(transposed.data()), a.bits_stride = tall / 64;
    a.x = direct ? x.at(row, 0, x.owner.element_size()) : across.data(), a.x_stride = direct ? x.stride : tall;
    a.packed = packed.data() + b * tall * blocking.block * steps.sum_bytes;
    a.sums = sums;
    a.begin = begin, a.end = end;
    a.columns = rows, a.outputs = std::min(blocking.block, grad.columns - b * blocking.block);
    return a;
  }

  uint8_t* order(int64_t w) const { return reinterpret_cast<uint8_t*>(sorted.data()) + w * x.columns; }

 private:
  void load_block(int64_t row, int64_t rows, int64_t b) const {
    const int64_t block = blocking.block;
    blocking.pack_straight(grad.at(row, b * block, grad.owner.element_size()), grad.stride, rows,
                           std::min(block, grad.columns - b * block),
                           packed.data() + b * tall * block * steps.sum_bytes);
  }
  void load_word(int64_t row, int64_t rows, int64_t w) const {
    const int64_t wide = std::min<int64_t>(64, x.columns - w * 64);
    if (!direct)
      steps.transpose_in(x.at(row, w * 64, x.owner.element_size()), x.stride, rows, wide,
                         across.data() + w * 64 * tall * steps.sum_bytes, tall);
    uint64_t* words = reinterpret_cast<uint64_t*>(transposed.data()) + w * tall;
    for (int64_t r = 0; r < rows; r += 64)
      steps.transpose_bits(bits.words() + (row + r) * bits.stride + w, bits.stride, std::min<int64_t>(64, rows - r),
                           words + r / 64, tall / 64, wide);
    for (int64_t c = 0; group && c < wide; c += group)
      for (int64_t r = 0; r < rows; r += 64)
        steps.order_rows(words + c * (tall / 64) + r / 64, tall / 64, std::min(group, wide - c), ~uint64_t{0},
                         static_cast<uint8_t>((w * 64 + c) % part), order(r / 64) + w * 64 + c);
  }
};

// Chunk by chunk of rows. A part of dW goes to its place, transposed, as soon as the last chunk is in it.
inline void grad_weight_tiles(const Steps& steps, const Matrix& grad, const Matrix& x, const Matrix& bits, double live,
                              const Matrix& out) {
  const GradWeightTiling tiling = grad_weight_tiling(live, x.rows, x.columns);
  const Blocking& blocking = steps.of(tiling.width);
  const int64_t block = blocking.block, sum = steps.sum_bytes, outputs = grad.columns, columns = x.columns;
  const int64_t blocks = parts(outputs, block), bytes = static_cast<int64_t>(x.owner.element_size());
  const bool once = x.rows <= kRows;
  int64_t part = tiling.part;  // less where threads would have nothing to do
  if (blocks * (columns / part) < 2 * thread_count()) part = std::max<int64_t>(part / 2, 32);
  const int64_t jobs = parts(columns, part);
  const Scratch kept(Scratch::kSums, once ? 0 : blocks * columns * block * sum, x.owner);  // [blocks][columns][block]
  const bool ordered = order_pays(live, x.rows, outputs * columns * sum);
  const Chunk chunk(steps, blocking, grad, x, bits, tiling.direct, part, ordered);
  for (int64_t row = 0; row < x.rows; row += kRows) {
    const int64_t rows = std::min(kRows, x.rows - row), words = dmt::words(rows);
    chunk.load(row, rows);
    torch::stable::parallel_for(0, blocks * jobs, 1, [&](int64_t begin, int64_t end) {
      alignas(64) char own[kMostPart * 128 * sizeof(float)];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / jobs, k = i % jobs * part;
        char* const sums = once ? own : kept.data() + (b * columns + k) * block * sum;
        Accumulate a = chunk.job(row, rows, b, k, std::min(columns, k + part), sums);
        for (int64_t w = 0; w < words; ++w) {
          a.word_begin = w, a.word_end = w + 1;
          a.order = ordered ? chunk.order(w) + k : nullptr;
          a.first = row == 0 && w == 0;
          tiling.direct ? blocking.accumulate_across(a) : blocking.accumulate_packed(a);
        }
        if (row + rows == x.rows)
          steps.transpose_out(sums, block, a.end - k, a.outputs, out.at(b * block, k, bytes), out.stride);
      }
    });
  }
}

}  // namespace dmt::sparse_linear
