// The steps of products on matrix tiles, which are compiled for AVX-512 and AMX alone.
//
//   C [m][n] = sum over depth of L [m][d] R [d][n]
//
// is made of blocks of 32 x 32. A panel is what a block needs of one operand, at all depths: 32 rows of L, or 32
// columns of R, in steps of 32: [steps][parts][2 tiles][16 rows][64 bytes], zero outside the operand. Numbers of
// bfloat16 are one part, those of float32 three (parts.h). A mask is applied as panels are made, and to results on
// their way out.
#pragma once

#include <cstdint>

namespace dmt::amx {

constexpr int64_t kSide = 32, kDepth = 32;  // of a block; numbers of a step
constexpr int64_t kPartBytes = 2048;        // of a step in a panel
constexpr int64_t kBlock = kSide * kSide;   // sums

constexpr int64_t steps_of(int64_t depth) { return (depth + kDepth - 1) / kDepth; }
constexpr int64_t panels_of(int64_t width) { return (width + kSide - 1) / kSide; }

// A mask, a word for 64 columns; or none. gaps: whole blocks of 32 x 32 may be dead, so that looking for them pays.
struct Mask {
  const uint64_t* bits = nullptr;
  int64_t stride = 0;
  bool gaps = false;
};

// A matrix whose rows lie `stride` numbers apart.
struct Operand {
  const void* data;
  int64_t stride, rows, columns;
  Mask mask;
};

// The order of rows, or columns, of 32 in two tiles. kPaired: what interleaving two rows of 32 numbers of bfloat16
// gives: groups of four go to one tile and to the other in turn.
enum class Order { kPlain, kPaired };

struct Result {
  void* data;
  int64_t stride, rows, columns;
  Mask mask;         // what is dead becomes 0
  const void* bias;  // [columns] or null
  Order rows_order, columns_order;
};

// A left panel: made by the steps below, or an operand where it lies, if a block is whole and nothing is masked.
struct Left {
  const void* data;
  int64_t stride, half, step;  // bytes: from row to row, to the second tile, to the next step
};
constexpr int64_t kRowBytes = 64;
constexpr Left packed(const void* panel) { return {panel, kRowBytes, kPartBytes / 2, kPartBytes}; }

// Steps of a product: those of a list, or all in turn.
struct Chosen {
  const int32_t* list;
  int64_t count;
};

// How the steps of a panel are made: in pieces, so that a few can be made between other things.
struct Pack {
  // Pieces [begin, end) of the step from `depth` on. What of the step is outside the operand becomes 0.
  void (*pieces)(const Operand&, int64_t first, int64_t depth, int begin, int end, void* step);
  int count;  // of pieces in a step
};

// A panel, depth [begin, end), that is made while blocks are multiplied, by units that products leave idle: a block
// makes its share, `turn` of `turns`, of all steps.
struct Job {
  Pack pack;
  const Operand* of;
  int64_t first, begin, end;
  char* panel;
  int turn, turns;
};

// Rows that will be read, or written, soon: a line of each is fetched in each step of a product of bfloat16.
constexpr int kFetched = 4;
struct Ahead {
  const char *reads[kFetched], *writes[kFetched];
  int count;  // of each
};

struct Steps {
  int64_t number_bytes, step_bytes;  // of a number in an operand, of a step in a panel
  int64_t deep;                      // numbers of a panel that are multiplied before the sums move on
  Order across;                      // of what right_rows and left_across make
  // Panels of L. rows: rows [first, first + 32), depth along columns. across: columns [first, first + 32), depth along
  // rows.
  Pack left_rows, left_across;
  // Panels of R. rows: columns [first, first + 32), depth along rows. across: rows [first, first + 32) of R
  // transposed, depth along columns.
  Pack right_rows, right_across;
  // The steps from `begin` to `end` in which something of rows, or columns, [first, first + 32) is live: their numbers.
  int64_t (*live_in_rows)(const Operand&, int64_t first, int64_t begin, int64_t end, int32_t* steps);
  int64_t (*live_in_columns)(const Operand&, int64_t first, int64_t begin, int64_t end, int32_t* steps);
  // A block of C to sums [32][32], or added to what is there; and, if not null, a share of a job.
  void (*multiply)(const Left&, const void* right, const Chosen&, bool adds, float* sums, const Job*, const Ahead&);
  // A block of sums to its place: rows [row, row + 32), columns [column, column + 32). False: something there is
  // not finite, and may be so only for the parts that stood for the numbers.
  bool (*finish)(const float* sums, const Result&, int64_t row, int64_t column);
};

// Columns of rows of 16-bit numbers.
struct Columns {
  // Those that `words` name, side by side; the ones that `bits` (or null) do not name are 0. And back, the others
  // becoming 0 if `clears`.
  void (*gather)(const uint16_t* row, int64_t columns, const uint64_t* words, const uint64_t* bits, uint16_t* to);
  void (*scatter)(const uint16_t* from, const uint64_t* words, const uint64_t* bits, bool clears, uint16_t* row,
                  int64_t columns);
};

// Pixels whose channels are next to each other, at most 32 of them.
struct Pixels {
  const float* data;
  int64_t stride, count, channels;
};

// Scale, shift and leaky ReLU of each channel; or nothing (null).
struct Affine {
  const float *scale, *shift;
  float slope;
};

// Where 32 pixels times at most 32 outputs go: pixel r to y + places[r], or nowhere if that is negative.
struct Pixel32 {
  float* y;
  const float *bias, *add;  // of the outputs, or null; of the pixels, like y, or null
  const int64_t* places;
  int64_t outputs;
  double* moments;  // [2][32]: sums and sums of squares of the outputs, to be added to; or null
  bool stream;      // see `goes_past`
};

// Whether what is written goes past the caches: there is so much of it that it would not be found there later, and its
// lines would first be fetched. Only whole lines can.
inline bool goes_past(const float* y, int64_t numbers, int64_t channels) {
  constexpr int64_t kMany = 1 << 20;  // bytes; half of a core's own cache, on processors with tiles
  return numbers * 4 >= kMany && channels % 16 == 0 && reinterpret_cast<uintptr_t>(y) % 64 == 0;
}

// Of convolutions of float32 whose numbers have one to three parts. Packed pixels are rows of a tile, 64 bytes each,
// one behind the other, so that a shifted picture is the same picture read from another place; parts lie `part` bytes
// apart.
struct ConvolutionSteps {
  void (*pack)(const Pixels&, const Affine&, int64_t part, char* to);
  // 32 pixels times 32 outputs: sums [32][32]. Step s has its left operand at `left + places[s]`; right: its panel.
  void (*multiply)(const char* left, const int64_t* places, int64_t count, int64_t part, const char* right,
                   float* sums);
  void (*finish)(const float* sums, const Pixel32&);
};

// What happens between convolutions: y = first(x), + second(other) or + other; the latter may be null.
struct Modulation {
  const float *x, *other;
  float* y;
  int64_t channels;
  Affine first, second;
  bool stream;
};
struct ModulationSteps {
  void (*modulate)(const Modulation&, int64_t pixels);
  // The means of two by two pixels of first(x): the second row of them is `row` numbers after the first.
  void (*pool)(const Modulation&, int64_t row, int64_t pixels);
};

#if defined(__x86_64__) && !defined(DMT_NO_AMX)  // a compiler may not know AMX
const Steps* bfloat16_steps();
const Steps* float_steps();
const Columns* columns();
const ConvolutionSteps* convolution_steps(int64_t parts);
const ModulationSteps* modulation_steps();
#else
inline const Steps* bfloat16_steps() { return nullptr; }
inline const Steps* float_steps() { return nullptr; }
inline const Columns* columns() { return nullptr; }
inline const ConvolutionSteps* convolution_steps(int64_t) { return nullptr; }
inline const ModulationSteps* modulation_steps() { return nullptr; }
#endif

}  // namespace dmt::amx
