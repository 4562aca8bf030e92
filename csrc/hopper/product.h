// y and dX of sparse_linear on Hopper (compute capability 9.0), for 16-bit types: one launch, two where tiles are told
// apart first.
#pragma once

#include <optional>

#include "../common.h"

namespace dmt::hopper {

// x or grad [M, ...], result [M, ...], weight: [N, K], each with unit stride along its rows; `stride` counts elements.
struct Matrix {
  const void* data;
  int64_t rows, columns, stride;
};

struct Job {
  ScalarType type;
  Matrix left, weight;
  void* out;            // contiguous, [M, results()]; a fresh allocation
  const int64_t* bits;  // contiguous
  const void* bias;     // or null
  bool input;           // dX, otherwise y
  bool by_tile;         // dead tiles of 64 x 64 are worth looking for

  int64_t results() const { return input ? weight.columns : weight.rows; }
};

// Whether the current device is a Hopper.
bool is_here();

// Whether it is, and types, shapes and places will do; `out` may be yet to come.
bool takes(const Job& job);

// `like` says on which device to allocate.
void run(const Job& job, const Tensor& like);

}  // namespace dmt::hopper
