// What the threshold_ema loops are asked to do: plain data, shared by all instruction sets.
#pragma once

#include <cstdint>

namespace dmt {

enum class Float { f32, f64, bf16, f16 };

// Rows [begin, end) of x [rows, width] through the mask. `A` in the comments is double for f64, float otherwise.
// Arrays over columns are padded to 64 * words; thresholds past `width` are not less than 0.
struct MaskJob {
  const void* x;
  void* values;  // contiguous, or null: not stored
  uint64_t* bits;
  const void* thresholds;  // A [64 * words]
  const void* shifts;      // A [64 * words], taken off x before it is summed, or null
  int64_t row_stride;      // of x, in elements
  int64_t width;
  int64_t words;
  bool stream;  // the values go past the caches: they are too many to be found there later
};

// Returns the live count.
using MaskRows = int64_t (*)(const MaskJob& job, int64_t begin, int64_t end);

// The same, and adds the sums that `moments` wants to `sums`, double [5][64 * words]; `partial` is room for as many.
using MaskAndSum = int64_t (*)(const MaskJob& job, int64_t begin, int64_t end, double* sums, void* partial);

// The mask before the threshold is known: it lies somewhere from job.thresholds to `above`. Words in which some |x|
// lies between the two are listed, by their number from the first of row `begin` on, for `mend` to make again.
struct Guess {
  const void* above;  // A [64 * words]
  uint32_t* listed;   // out: room for every word
  int64_t count;      // out: of those listed
  double sum;         // out: of |x|, as AbsSums has it; not finite if some x is not
};
using GuessRows = int64_t (*)(const MaskJob& job, int64_t begin, int64_t end, Guess* guess);
// Makes the words listed again, with the thresholds that job has now. Returns by how much the live count grows.
using Mend = int64_t (*)(const MaskJob& job, int64_t begin, const uint32_t* listed, int64_t count);

// Rows [begin, end) of x: the sum of |x| over finite elements, by the rule of reference.abs_sums, and their number.
struct SumJob {
  const void* x;
  int64_t row_stride;
  int64_t width;
};
using AbsSums = void (*)(const SumJob& job, int64_t begin, int64_t end, double* sum_and_count);

// From the sums of all rows, double [5][64 * words]: statistics A [4][width] and the return value, eq. 10.
struct DivergenceJob {
  const double* sums;
  const void* shifts;  // A [64 * words]
  void* statistics;    // A [4][width]
  double epsilon;      // added to both variances
  int64_t rows;
  int64_t width;
  int64_t words;
};
using FinishDivergence = double (*)(const DivergenceJob& job);

struct BackwardJob {
  const void* grad;  // [rows, width], contiguous, or null: zero
  const void* x;
  void* grad_x;             // contiguous
  const void* thresholds;   // A [64 * words]
  const void* inverses;     // A [64 * words]: 1 / threshold, 0 where that is 0
  const void* information;  // A [5][64 * words]: divergence_coefficients, or null
  int64_t row_stride;
  int64_t width;
  int64_t words;
  bool stream;  // as in MaskJob, of grad_x
};

// Adds, per column, the sum over rows of G x (1 - v^2)^2 within the window to `pulled`, double [64 * words];
// `partial` is room for as many.
using BackwardRows = void (*)(const BackwardJob& job, int64_t begin, int64_t end, double* pulled, void* partial);

struct Loops {
  AbsSums abs_sums;
  MaskRows mask_rows;
  MaskAndSum mask_and_sum;
  GuessRows guess_rows;
  Mend mend;
  FinishDivergence finish_divergence;
  BackwardRows backward_rows;
};

namespace baseline {
Loops loops(Float dtype);
}
namespace avx2 {
Loops loops(Float dtype);
}
namespace avx512 {
Loops loops(Float dtype);
}

}  // namespace dmt
