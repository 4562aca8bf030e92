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

#if defined(__x86_64__) && !defined(DMT_NO_AMX)  // a compiler may not know AMX
const Steps* bfloat16_steps();
const Steps* float_steps();
const Columns* columns();
#else
inline const Steps* bfloat16_steps() { return nullptr; }
inline const Steps* float_steps() { return nullptr; }
inline const Columns* columns() { return nullptr; }
#endif

}  // namespace dmt::amx
