// The steps of the sparse-gradient matrix product that are compiled once per instruction set.
//
// A mask is one 64-bit word per (row, 64 columns). Weights and dY are packed in blocks: [blocks][rows][block], `block`
// outputs wide, zero behind the last output. Sums are float, or double for double operands.
#pragma once

#include <cstdint>

namespace dmt::sparse_linear {

enum class Dtype { kFloat, kDouble, kBfloat16, kHalf };

// Vectors of a block. Eight, a factor and an operand fit 16 registers. Four leave room in the first-level cache, which
// is worth more where few elements are live. Sixteen take 32 registers: dX alone has them, where many are live.
constexpr int kWide = 8, kNarrow = 4, kBroad = 16;
enum class Width { kNarrow, kWide, kBroad };

// Rows of x or dY that one thread works on at a time, at most: their sums fit the second-level cache.
constexpr int64_t kRows = 256;

// The bits of word `w` that belong to a column. Static, as all code here: none of one instruction set may be linked
// into another.
static constexpr uint64_t valid_bits(int64_t w, int64_t columns) {
  const int64_t rest = columns - w * 64;
  return rest >= 64 ? ~uint64_t{0} : (uint64_t{1} << rest) - 1;
}

// Bytes, in whole lines, that each of `rows` steps fetches ahead so that all of them have fetched `bytes`.
static constexpr int64_t share_of_lines(int64_t bytes, int64_t rows) {
  return (bytes + 64 * rows - 1) / (64 * rows) * 64;
}

// One step of `accumulate`: rows [begin, end) x one block of outputs x words [word_begin, word_end).
struct Accumulate {
  const uint64_t* bits;  // [rows][bits_stride]
  int64_t bits_stride;   // words
  const uint8_t* order;  // [end - begin] the rows, from begin on, as they are gone through; null: in turn
  const void* x;         // [rows][x_stride], or where it is read across [columns][x_stride]
  int64_t x_stride;      // elements
  const void* packed;    // this block: [64 * words][block], of sums, from the column of packed_word on
  int64_t packed_word;
  void* sums;        // [end - begin][block]; where sums stay between calls
  const void* bias;  // [outputs] or null; added by the first call
  void* y;           // [rows][y_stride] at this block's first output, or null: leave the result in `sums`
  int64_t y_stride;
  int64_t begin, end;
  int64_t word_begin, word_end;
  int64_t columns;   // of x; bits behind the last column are ignored
  int64_t outputs;   // in this block, at most `block`
  bool first, last;  // first: sums start at the bias; last: the result goes to y
  bool far;          // these rows of x may not be near: fetch them ahead
  int64_t ahead;     // bytes, for each row, of what lies behind these words of `packed`, to fetch for the next step
};

// dX for rows [begin, end), words [word_begin, word_end) of columns.
struct GradInput {
  const uint64_t* bits;
  int64_t bits_stride;
  const void* grad;  // [rows][grad_stride], dtype of the operand
  int64_t grad_stride;
  const void* packed;  // [blocks][columns][block], of sums; null: pack each tile of `weight` when it is needed
  const void* weight;  // [outputs][weight_stride], dtype of the operand
  int64_t weight_stride;
  void* grad_x;  // [rows][grad_x_stride]
  int64_t grad_x_stride;
  int64_t begin, end;
  int64_t word_begin, word_end;
  int64_t columns, outputs;
  bool fetches;   // the packed weight does not stay near
  bool ordered;   // rows go by how many of their elements are live
  void* partial;  // [end - begin][64] vectors of sums: working memory
  void* scratch;  // [blocks][end - begin][block] of sums: a place to pack dY; null: read dY where it is,
                  // which takes whole blocks of outputs in the dtype of the sums
};

// The steps that work on blocks of one width.
struct Blocking {
  int64_t block;  // outputs
  // [rows <= block][columns] (stride) -> [columns][block], zero behind `rows`.
  void (*pack_transposed)(const void* source, int64_t stride, int64_t rows, int64_t columns, void* packed);
  // [rows][columns <= block] (stride) -> [rows][block], zero behind `columns`.
  void (*pack_straight)(const void* source, int64_t stride, int64_t rows, int64_t columns, void* packed);
  // y and dW; null for broad blocks.
  void (*accumulate)(const Accumulate&);         // x in the dtype of the operand
  void (*accumulate_packed)(const Accumulate&);  // x in the dtype of the sums; y must be null
  void (*accumulate_across)(const Accumulate&);  // x in the dtype of the operand, read across; one word, y null
  void (*grad_input)(const GradInput&);
};

struct Steps {
  int64_t sum_bytes;             // of one sum: 4 or 8
  Blocking wide, narrow, broad;  // broad: as wide where there are no 32 registers
  // [rows][columns] (stride) -> sums [columns][target_stride].
  void (*transpose_in)(const void* source, int64_t stride, int64_t rows, int64_t columns, void* target,
                       int64_t target_stride);
  // sums [rows][source_stride] -> dtype [columns][target_stride].
  void (*transpose_out)(const void* source, int64_t source_stride, int64_t rows, int64_t columns, void* target,
                        int64_t target_stride);
  // 64 rows of words at `stride` -> 64 transposed words: bit r of target[c * target_stride] is bit c of row r.
  void (*transpose_bits)(const uint64_t* source, int64_t stride, int64_t rows, uint64_t* target, int64_t target_stride,
                         int64_t columns);
  // Live bits of [rows][columns].
  int64_t (*count_live)(const uint64_t* bits, int64_t bits_stride, int64_t rows, int64_t columns);
  // base + r for each row r of `rows` <= kRows, by how many `valid` bits of its word are set.
  void (*order_rows)(const uint64_t* bits, int64_t bits_stride, int64_t rows, uint64_t valid, uint8_t base,
                     uint8_t* order);
  // target = where(mask, source, 0); target may be source
  void (*apply_mask)(const void* source, int64_t stride, const uint64_t* bits, int64_t bits_stride, int64_t rows,
                     int64_t columns, void* target, int64_t target_stride);

  const Blocking& of(Width width) const {
    return width == Width::kNarrow ? narrow : width == Width::kWide ? wide : broad;
  }
  int64_t vector_bytes() const { return wide.block / kWide * sum_bytes; }
};

// Null where the processor or the build lacks the instructions.
const Steps* portable_steps(Dtype);
const Steps* avx2_steps(Dtype);
const Steps* avx512_steps(Dtype);

}  // namespace dmt::sparse_linear
