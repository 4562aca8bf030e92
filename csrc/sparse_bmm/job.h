// A product with a matrix of its own for every few rows, where elements of x are zero: plain data, shared by all
// instruction sets.
#pragma once

#include <cstdint>

namespace dmt::sparse_bmm {

// x [items][rows][depth] times weight [items][depth][outputs]; strides in elements.
struct Job {
  const void* x;
  int64_t x_item, x_row, x_column;  // one of the last two is 1
  const void* weight;
  int64_t weight_item, weight_row, weight_column;
  void* y;  // contiguous
  int64_t rows, depth, outputs;
  void* padded;  // room for [depth][outputs, rounded up to kPadding bytes]; null: weight is read where it lies
  void* sums;    // room for [rows][kWidest bytes]
};
constexpr int64_t kPadding = 64, kWidest = 8 * 64;

// Items [begin, end).
using Run = void (*)(const Job&, int64_t begin, int64_t end);
// Elements of x that are not zero.
using CountLive = int64_t (*)(const Job&, int64_t items);

struct Steps {
  int64_t lanes;  // elements that are read at once
  Run run;
  CountLive count_live;
};

// Of float operands, or for `wide` of double ones.
Steps portable_steps(bool wide);
Steps avx2_steps(bool wide);
Steps avx512_steps(bool wide);

}  // namespace dmt::sparse_bmm
