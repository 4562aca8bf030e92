// Products on matrix tiles: y, dX and dW with the mask applied on the way in or out. Only whole blocks are skipped:
// this is the dense way where a processor has AMX, in place of a masked copy and a library's product.
#pragma once

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "../common.h"
#include "../scratch.h"
#include "../sparse_linear/matrix.h"
#include "live.h"
#include "tile.h"

namespace dmt::amx {

using sparse_linear::Matrix;

inline const Steps& steps_for(ScalarType type) {
  return *(type == ScalarType::Float ? float_steps() : bfloat16_steps());
}

inline Operand operand(const Matrix& m, const Mask& mask = {}) { return {m.data, m.stride, m.rows, m.columns, mask}; }

// Rows [row, row + 32) need no panel if they are of bfloat16, all there, not masked, and each in whole lines.
inline bool whole(const Steps& steps, const Operand& m, int64_t row, int64_t depth) {
  const bool lines = (reinterpret_cast<uintptr_t>(m.data) | static_cast<uintptr_t>(m.stride * 2)) % kRowBytes == 0;
  return steps.number_bytes == 2 && m.mask.bits == nullptr && row + kSide <= m.rows && depth % kDepth == 0 && lines;
}

inline Left in_place(const Operand& m, int64_t row, int64_t depth) {
  return {static_cast<const uint16_t*>(m.data) + row * m.stride + depth, m.stride * 2, kTileRows * m.stride * 2,
          kRowBytes};
}

// C = L R. Panels of one operand, the near one, stay in the second-level cache, a strip of them at a time; those of the
// other pass by, each made while blocks of the one before are multiplied. Where depth is large it comes in parts.
class Product {
 public:
  // by_rows: depth is along columns of the left operand, else along its rows.
  Product(const Steps& steps, const Operand& left, bool by_rows, const Operand& right, const Pack& pack_right,
          int64_t depth, const Result& result, const Tensor& like)
      : steps_(steps),
        left_(left),
        right_(right),
        result_(result),
        like_(like),
        pack_left_(by_rows ? steps.left_rows : steps.left_across),
        pack_right_(pack_right),
        by_rows_(by_rows),
        threads_(thread_count()),
        depth_(depth) {
    const int64_t tall = panels_of(result.rows), wide = panels_of(result.columns);
    left_is_near_ = by_rows ? tall < wide : tall <= wide;
    near_ = left_is_near_ ? tall : wide, passing_ = left_is_near_ ? wide : tall;
    parts_ = std::max<int64_t>((depth + steps.deep - 1) / steps.deep, 1);
    deep_ = std::max<int64_t>(steps_of((depth + parts_ - 1) / parts_), 1) * kDepth;
    bytes_ = steps_of(deep_) * steps.step_bytes;
  }

  // Whether the result can be relied on: see `finish`.
  bool run() const {
    const int64_t strips = (near_ - 1) / std::max<int64_t>(kNear / bytes_, 1) + 1, most = (near_ + strips - 1) / strips;
    const Scratch panels(Scratch::kPacked, most * bytes_, like_);
    const Scratch kept(Scratch::kSums, parts_ > 1 ? most * passing_ * kBlock * 4 : 0, like_);
    std::atomic<bool> good = true;
    Strip strip{panels.data(), parts_ > 1 ? reinterpret_cast<float*>(kept.data()) : nullptr};
    for (int64_t begin = 0; begin < near_; begin += most) {
      strip.begin = begin, strip.count = static_cast<int>(std::min(near_ - begin, most));
      for (int64_t part = 0; part < parts_; ++part) {
        strip.from = part * deep_, strip.to = std::min(depth_, strip.from + deep_);
        look(strip);
        torch::stable::parallel_for(0, passing_, 1, [&](int64_t from, int64_t to) {
          if (!pass_by(strip, from, to)) good = false;
        });
      }
    }
    return good;
  }

 private:
  static constexpr int64_t kNear = 1 << 20;  // bytes of panels

  // What is known of one panel.
  struct Panel {
    Left left;
    Alive alive;
    Chosen chosen;  // of the steps; those that its own mask leaves
    Wanted wanted;  // of its blocks
    bool in_place;
  };

  // Near panels [begin, begin + count) at depth [from, to), and the sums of earlier parts.
  struct Strip {
    char* data;
    float* sums;
    int64_t begin = 0, from = 0, to = 0;
    int count = 0;
    std::vector<Panel> panels = {};
  };

  void look(Panel& panel, bool left, int64_t index, const Strip& strip, const char* data) const {
    const int64_t first = index * kSide;
    panel.chosen = {nullptr, steps_of(strip.to - strip.from)};
    panel.left = packed(data);
    panel.in_place = left && by_rows_ && whole(steps_, left_, first, depth_);
    if (panel.in_place) panel.left = in_place(left_, first, strip.from);
    if (left) panel.wanted.look(steps_, first);
    if (left && by_rows_) panel.chosen = panel.alive.in_rows(steps_, left_, first, strip.from, strip.to);
    if (!left && !by_rows_) panel.chosen = panel.alive.in_columns(steps_, right_, first, strip.from, strip.to);
  }

  // Near panels are made here if threads share them, else while blocks of the first one that passes are multiplied.
  void look(Strip& strip) const {
    strip.panels.resize(strip.count, Panel{{}, {}, {}, Wanted(result_), false});
    for (int i = 0; i < strip.count; ++i)
      look(strip.panels[i], left_is_near_, strip.begin + i, strip, strip.data + i * bytes_);
    if (threads_ == 1) return;
    torch::stable::parallel_for(0, strip.count, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) make(near_job(strip, static_cast<int>(i)));
    });
  }

  Job job_of(bool left, int64_t index, const Strip& strip, char* data) const {
    return {left ? pack_left_ : pack_right_, left ? &left_ : &right_, index * kSide, strip.from, strip.to, data, 0, 1};
  }
  std::optional<Job> near_job(const Strip& strip, int i) const {
    if (strip.panels[i].in_place) return std::nullopt;
    return job_of(left_is_near_, strip.begin + i, strip, strip.data + i * bytes_);
  }
  Job passing_job(const Strip& strip, int64_t j, char* data) const { return job_of(!left_is_near_, j, strip, data); }

  // Products of bfloat16 leave no time to pack rows beside them: rows that pass by are packed when it is their turn,
  // those not read in place, and what lies ahead is only fetched.
  bool rows_at_once() const { return !left_is_near_ && by_rows_ && steps_.number_bytes == 2; }

  // What is fetched during block `turn` of the strip for rows [32 j, 32 j + 32): its share of them, of the left operand
  // and of the result.
  Ahead ahead(const Strip& strip, int64_t j, int turn) const {
    Ahead found{};
    const int64_t share = std::min<int64_t>((kSide + strip.count - 1) / strip.count, kFetched);
    for (int64_t row = j * kSide + turn * share; found.count < share && row < result_.rows; ++row, ++found.count) {
      found.reads[found.count] =
          static_cast<const char*>(left_.data) + (row * left_.stride + strip.from) * steps_.number_bytes;
      found.writes[found.count] =
          static_cast<const char*>(result_.data) + (row * result_.stride + strip.begin * kSide) * steps_.number_bytes;
    }
    return found;
  }

  bool pass_by(const Strip& strip, int64_t from, int64_t to) const {
    const Tiles tiles;
    const Scratch twice(Scratch::kInput, 2 * bytes_, like_);
    alignas(64) float sums[kBlock];
    const auto place = [&](int64_t j) { return twice.data() + (j & 1) * bytes_; };
    const bool made = threads_ > 1;
    if (!made) make(near_job(strip, 0));
    if (!rows_at_once()) make(passing_job(strip, from, place(from)));
    bool good = true;
    Panel panel{{}, {}, {}, Wanted(result_), false};
    for (int64_t j = from; j < to; ++j) {
      look(panel, !left_is_near_, j, strip, place(j));
      if (rows_at_once() && !panel.in_place) make(passing_job(strip, j, place(j)));
      for (int i = 0; i < strip.count; ++i) {
        std::optional<Job> job;
        if (j == from && !made && i + 1 < strip.count) {
          job = near_job(strip, i + 1);
        } else if (j + 1 < to && !rows_at_once()) {
          job = passing_job(strip, j + 1, place(j + 1));
          if (j > from || made) job->turn = i, job->turns = strip.count;
        }
        float* const block = strip.sums ? strip.sums + (j * strip.count + i) * kBlock : sums;
        good &= multiply(strip, i, panel, j, block, job ? &*job : nullptr);
      }
    }
    return good;
  }

  // Block i of the strip with the panel that passes by, the j-th.
  bool multiply(const Strip& strip, int i, const Panel& passing, int64_t j, float* block, const Job* job) const {
    const Panel& near = strip.panels[i];
    const Panel &left = left_is_near_ ? near : passing, &right = left_is_near_ ? passing : near;
    const int64_t at = strip.begin + i, p = left_is_near_ ? at : j, q = left_is_near_ ? j : at;
    Chosen chosen = by_rows_ ? left.chosen : right.chosen;
    if (!left.wanted[q]) chosen.count = 0;
    steps_.multiply(left.left, right.left.data, chosen, strip.from > 0, block, job,
                    rows_at_once() ? ahead(strip, j + 1, i) : Ahead{});
    return strip.to < depth_ || steps_.finish(block, result_, p * kSide, q * kSide);
  }

  void make(const std::optional<Job>& job) const {
    if (!job) return;
    char* to = job->panel;
    for (int64_t depth = job->begin; depth < job->end; depth += kDepth, to += steps_.step_bytes)
      job->pack.pieces(*job->of, job->first, depth, 0, job->pack.count, to);
  }

  const Steps& steps_;
  const Operand &left_, &right_;
  const Result& result_;
  const Tensor& like_;
  Pack pack_left_, pack_right_;
  bool by_rows_, left_is_near_;
  int64_t threads_, near_, passing_;      // and panels of each operand
  int64_t depth_, parts_, deep_, bytes_;  // in how many parts; depth and bytes of a panel of one
};

// The mask of a matrix of bits, which may be null: everything is live.
inline Mask mask_of(const Matrix* bits, bool gaps) {
  if (bits == nullptr) return {};
  return {bits->words(), bits->stride, gaps};
}

inline Result result(const Matrix& m, const Mask& mask, const void* bias, Order rows, Order columns) {
  return {m.data, m.stride, m.rows, m.columns, mask, bias, rows, columns};
}

// The products, or nothing where a result is not finite and the library has to say what it is: of float32 alone.
// y [M, N].
inline std::optional<Tensor> forward(const Matrix& x, const Mask& mask, const Tensor& weight,
                                     const std::optional<Tensor>& bias) {
  const Steps& steps = steps_for(weight.scalar_type());
  const Matrix w = sparse_linear::matrix(weight);
  const Tensor y = empty({x.rows, w.rows}, weight.scalar_type(), weight);
  const std::optional<Tensor> b = bias ? std::optional<Tensor>(as_contiguous(*bias)) : std::nullopt;
  const Result to = result(sparse_linear::matrix(y), {}, b ? b->data_ptr() : nullptr, Order::kPlain, Order::kPlain);
  const Operand left = operand(x, mask), right = operand(w);
  if (!Product(steps, left, true, right, steps.right_across, x.columns, to, y).run()) return std::nullopt;
  return y;
}

// dX [M, K].
inline std::optional<Tensor> grad_input(const Matrix& grad, const Mask& mask, const Tensor& weight) {
  const Steps& steps = steps_for(weight.scalar_type());
  const Matrix w = sparse_linear::matrix(weight);
  const Tensor out = empty({grad.rows, w.columns}, weight.scalar_type(), weight);
  const Result to = result(sparse_linear::matrix(out), mask, nullptr, Order::kPlain, steps.across);
  const Operand left = operand(grad), right = operand(w);
  if (!Product(steps, left, true, right, steps.right_rows, grad.columns, to, out).run()) return std::nullopt;
  return out;
}

// dW [N, K].
inline std::optional<Tensor> grad_weight(const Matrix& grad, const Matrix& x, const Mask& mask) {
  const ScalarType type = x.owner.scalar_type();
  const Steps& steps = steps_for(type);
  const Tensor out = empty({grad.columns, x.columns}, type, x.owner);
  const Result to = result(sparse_linear::matrix(out), {}, nullptr, steps.across, steps.across);
  const Operand left = operand(grad), right = operand(x, mask);
  if (!Product(steps, left, false, right, steps.right_rows, grad.rows, to, out).run()) return std::nullopt;
  return out;
}

}  // namespace dmt::amx
