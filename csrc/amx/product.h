// Products of bfloat16 on matrix tiles: y, dX and dW with the mask applied on the way in or out. Only whole blocks are
// skipped: this is the dense way where a processor has AMX, in place of a masked copy and a library's product.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "../common.h"
#include "../scratch.h"
#include "../sparse_linear/matrix.h"
#include "live.h"
#include "tile.h"

namespace dmt::amx {

using sparse_linear::Matrix;

inline bool takes(ScalarType type) { return type == ScalarType::BFloat16 && isa() == Isa::amx; }

// Whether a product is made here. For a few rows of a large weight, which take as long as it is read, the library is a
// little faster.
inline bool takes(ScalarType type, int64_t rows, int64_t weight) {
  return takes(type) && (rows >= 8 || weight < int64_t{1} << 19);
}

inline Operand operand(const Matrix& m, const Mask& mask = {}) {
  return {reinterpret_cast<const uint16_t*>(m.data), m.stride, m.rows, m.columns, mask};
}

using Pack = void (*)(const Operand&, int64_t first, int64_t begin, int64_t end, void* panel);

// Bytes of right panels that a thread goes through for each left one: they stay in its second-level cache.
constexpr int64_t kNear = 1 << 20;

// Whether rows [row, row + 32) need no panel: all there, none masked, and each in whole lines.
inline bool whole(const Operand& m, int64_t row, int64_t depth) {
  const bool lines = (reinterpret_cast<uintptr_t>(m.data) | static_cast<uintptr_t>(m.stride * 2)) % kRowBytes == 0;
  return m.mask.bits == nullptr && row + kSide <= m.rows && depth % kDepth == 0 && lines;
}

inline Left in_place(const Operand& m, int64_t row) {
  return {m.data + row * m.stride, m.stride * 2, kTileRows * m.stride * 2, kRowBytes};
}

// What is fetched during block `turn` of `turns` for the rows from `row` on: its share of them, of the left operand and
// of the result from `column` on.
inline Ahead ahead(const Operand& left, const Result& result, int64_t row, int64_t column, int64_t turn,
                   int64_t turns) {
  Ahead found{};
  const int64_t share = std::min<int64_t>((kSide + turns - 1) / turns, kFetched);
  for (row += turn * share; found.count < share && row < result.rows; ++row, ++found.count) {
    found.reads[found.count] = reinterpret_cast<const char*>(left.data + row * left.stride);
    found.writes[found.count] = reinterpret_cast<const char*>(result.data + row * result.stride + column);
  }
  return found;
}

// Panels of few rows: these are packed once, and a panel of R is used as soon as it is made. Threads share the panels
// of R then: those of rows may be fewer than they.
constexpr int64_t kFew = 4;
inline bool few(int64_t tall, int64_t wide) { return tall <= kFew || tall < std::min(thread_count(), wide); }

inline void product_of_few_rows(const Steps& steps, const Operand& left, const Operand& right, Pack pack_right,
                                int64_t depth, const Result& result, const Tensor& like) {
  const int64_t panel_bytes = std::max<int64_t>(steps_of(depth), 1) * kStepBytes;
  const int64_t tall = panels_of(result.rows);
  const Scratch rows(Scratch::kPacked, tall * panel_bytes, like);
  std::vector<Alive> alive(tall);
  std::vector<Chosen> chosen(tall);
  for (int64_t p = 0; p < tall; ++p) {
    steps.left_rows(left, p * kSide, 0, depth, rows.data() + p * panel_bytes);
    chosen[p] = alive[p].in_rows(steps, left, p * kSide, 0, depth);
  }
  torch::stable::parallel_for(0, panels_of(result.columns), 2, [&](int64_t from, int64_t to) {
    const Tiles tiles;
    const Scratch panel(Scratch::kInput, panel_bytes, like);
    alignas(64) float sums[kBlock];
    for (int64_t q = from; q < to; ++q) {
      pack_right(right, q * kSide, 0, depth, panel.data());
      for (int64_t p = 0; p < tall; ++p) {
        steps.multiply(packed(rows.data() + p * panel_bytes), panel.data(), chosen[p], false, sums, {});
        steps.finish(sums, result, p * kSide, q * kSide);
      }
    }
  });
}

// C = L R where the rows of L are many: strips of R are packed once, rows of L as they are met, at all depths.
inline void product_by_rows(const Steps& steps, const Operand& left, const Operand& right, Pack pack_right,
                            int64_t depth, const Result& result, const Tensor& like) {
  const int64_t panel_bytes = std::max<int64_t>(steps_of(depth), 1) * kStepBytes;
  const int64_t tall = panels_of(result.rows), wide = panels_of(result.columns);
  if (few(tall, wide)) return product_of_few_rows(steps, left, right, pack_right, depth, result, like);
  const int64_t strip = std::clamp<int64_t>(kNear / panel_bytes, 1, wide);
  const Scratch rights(Scratch::kPacked, strip * panel_bytes, like);
  for (int64_t begin = 0; begin < wide; begin += strip) {
    const int64_t end = std::min(wide, begin + strip);
    torch::stable::parallel_for(begin, end, 1, [&](int64_t from, int64_t to) {
      for (int64_t p = from; p < to; ++p)
        pack_right(right, p * kSide, 0, depth, rights.data() + (p - begin) * panel_bytes);
    });
    torch::stable::parallel_for(0, tall, 1, [&](int64_t from, int64_t to) {
      const Tiles tiles;
      const Scratch panel(Scratch::kInput, panel_bytes, like);
      alignas(64) float sums[kBlock] = {};  // those of a block that is not wanted are masked altogether
      Alive alive;
      Wanted wanted(result);
      for (int64_t p = from; p < to; ++p) {
        const int64_t row = p * kSide;
        const Left rows = whole(left, row, depth) ? in_place(left, row) : packed(panel.data());
        if (rows.data == panel.data()) steps.left_rows(left, row, 0, depth, panel.data());
        const Chosen chosen = alive.in_rows(steps, left, row, 0, depth);
        wanted.look(steps, row);
        for (int64_t q = begin; q < end; ++q) {
          if (wanted[q])
            steps.multiply(rows, rights.data() + (q - begin) * panel_bytes, chosen, false, sums,
                           ahead(left, result, row + kSide, begin * kSide, q - begin, end - begin));
          steps.finish(sums, result, row, q * kSide);
        }
      }
    });
  }
}

// Rows of both operands of dW that are multiplied before the sums move on, and panels of dY at a time.
constexpr int64_t kDeep = 1024, kStrip = 16;

// C = L^T R, both with depth along their rows, which may be many.
struct Across {
  const Steps& steps;
  const Operand &left, &right;
  const Result& result;
  const Tensor& like;
  int64_t parts, deep;  // pieces of the depth, and rows of each

  Across(const Steps& s, const Operand& l, const Operand& r, const Result& to, const Tensor& t)
      : steps(s), left(l), right(r), result(to), like(t), parts(std::max<int64_t>((l.rows + kDeep - 1) / kDeep, 1)) {
    deep = std::max<int64_t>(steps_of((left.rows + parts - 1) / parts), 1) * kDepth;
  }

  // Blocks of left panels [p_begin, p_end) and right ones [q_begin, q_end), one thread's.
  void run(int64_t p_begin, int64_t p_end, int64_t q_begin, int64_t q_end) const {
    const Tiles tiles;
    const int64_t strip = std::min(kStrip, p_end - p_begin), panel_bytes = deep / kDepth * kStepBytes;
    const Scratch lefts(Scratch::kGrad, strip * panel_bytes, like);
    const Scratch panel(Scratch::kInput, panel_bytes, like);
    const Scratch kept(Scratch::kSums, (parts > 1 ? strip * (q_end - q_begin) : 1) * kBlock * 4, like);
    Alive alive;
    for (int64_t begin = p_begin; begin < p_end; begin += strip) {
      const int64_t end = std::min(p_end, begin + strip);
      for (int64_t row = 0; row == 0 || row < left.rows; row += deep) {
        const int64_t last = std::min(left.rows, row + deep);
        for (int64_t p = begin; p < end; ++p)
          steps.left_across(left, p * kSide, row, last, lefts.data() + (p - begin) * panel_bytes);
        for (int64_t q = q_begin; q < q_end; ++q) {
          steps.right_rows(right, q * kSide, row, last, panel.data());
          const Chosen chosen = alive.in_columns(steps, right, q * kSide, row, last);
          for (int64_t p = begin; p < end; ++p) {
            const int64_t place = parts > 1 ? (q - q_begin) * strip + p - begin : 0;
            float* const sums = reinterpret_cast<float*>(kept.data()) + place * kBlock;
            steps.multiply(packed(lefts.data() + (p - begin) * panel_bytes), panel.data(), chosen, row > 0, sums, {});
            if (last == left.rows) steps.finish(sums, result, p * kSide, q * kSide);
          }
        }
      }
    }
  }
};

inline void product_across(const Steps& steps, const Operand& left, const Operand& right, const Result& result,
                           const Tensor& like) {
  const Across product(steps, left, right, result, like);
  const int64_t tall = panels_of(result.rows), wide = panels_of(result.columns);
  if (tall < std::min(thread_count(), wide)) {  // as few left panels as in `few`: each thread packs them for itself
    torch::stable::parallel_for(0, wide, 1, [&](int64_t from, int64_t to) { product.run(0, tall, from, to); });
  } else {
    torch::stable::parallel_for(0, tall, 1, [&](int64_t from, int64_t to) { product.run(from, to, 0, wide); });
  }
}

// The mask of a matrix of bits, which may be null: everything is live.
inline Mask mask_of(const Matrix* bits, bool gaps) {
  if (bits == nullptr) return {};
  return {bits->words(), bits->stride, gaps};
}

inline Result result(const Matrix& m, const Mask& mask, const void* bias, Order rows, Order columns) {
  return {reinterpret_cast<uint16_t*>(m.data), m.stride, m.rows, m.columns, mask,
          static_cast<const uint16_t*>(bias),  rows,     columns};
}

inline Matrix made(int64_t rows, int64_t columns, const Tensor& like) {
  return sparse_linear::matrix(empty({rows, columns}, ScalarType::BFloat16, like));
}

// y [M, N].
inline Tensor forward(const Matrix& x, const Mask& mask, const Tensor& weight, const std::optional<Tensor>& bias) {
  const Matrix w = sparse_linear::matrix(weight), y = made(x.rows, w.rows, weight);
  const std::optional<Tensor> b = bias ? std::optional<Tensor>(as_contiguous(*bias)) : std::nullopt;
  product_by_rows(*steps(), operand(x, mask), operand(w), steps()->right_across, x.columns,
                  result(y, {}, b ? b->data_ptr() : nullptr, Order::kPlain, Order::kPlain), y.owner);
  return y.owner;
}

// dX [M, K].
inline Tensor grad_input(const Matrix& grad, const Mask& mask, const Tensor& weight) {
  const Matrix w = sparse_linear::matrix(weight), out = made(grad.rows, w.columns, weight);
  product_by_rows(*steps(), operand(grad), operand(w), steps()->right_rows, grad.columns,
                  result(out, mask, nullptr, Order::kPlain, Order::kPaired), out.owner);
  return out.owner;
}

// dW [N, K].
inline Tensor grad_weight(const Matrix& grad, const Matrix& x, const Mask& mask) {
  const Matrix out = made(grad.columns, x.columns, x.owner);
  product_across(*steps(), operand(grad), operand(x, mask), result(out, {}, nullptr, Order::kPaired, Order::kPaired),
                 out.owner);
  return out.owner;
}

}  // namespace dmt::amx
