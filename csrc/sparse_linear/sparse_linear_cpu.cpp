// The sparse-gradient matrix product on the CPU: checks, the choice between sparse and dense, threads.
//
//   y = where(mask, x, 0) W^T + b      dX = where(mask, dY W, 0)      dW = dY^T where(mask, x, 0)
//
// y and dW are sums over live elements (x[m, k] times a packed row of weights or of dY), dX samples its products at
// live elements. Each output is summed by one thread in an order that does not depend on how many there are.
#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "checks.h"
#include "choice.h"
#include "dense_route.h"
#include "matrix.h"
#include "steps.h"

namespace dmt::sparse_linear {
namespace {

CallCounter forward_calls("sparse_linear");
CallCounter grad_input_calls("sparse_linear_grad_input");
CallCounter grad_weight_calls("sparse_linear_grad_weight");

constexpr int64_t kRows = 256;      // rows of x or dY that one thread works on at a time: their sums fit L2
constexpr int64_t kPart = 256;      // columns of dW, likewise; half as many where threads would have nothing to do
constexpr double kMany = 0.4;       // live share from which dX takes two blocks of outputs at once (measured)
constexpr int64_t kSmallPart = 32;  // of few rows, which leave room for their sums in the first-level cache

Dtype dtype_of(ScalarType type) {
  if (type == ScalarType::Float) return Dtype::kFloat;
  if (type == ScalarType::Double) return Dtype::kDouble;
  return type == ScalarType::BFloat16 ? Dtype::kBfloat16 : Dtype::kHalf;
}

const Steps& steps_for(ScalarType type) {
  const Dtype dtype = dtype_of(type);
#if defined(__x86_64__)
  if (isa() == Isa::avx512) return *avx512_steps(dtype);
  if (isa() == Isa::avx2) return *avx2_steps(dtype);
#endif
  return *portable_steps(dtype);
}

// Working memory of one call. Small pieces stay with the calling thread for its next call: fresh pages cost more than
// a small product. What is in them means nothing between calls.
class Scratch {
 public:
  enum Use { kPacked, kGrad, kInput, kBits, kSums, kUses };

  Scratch(Use use, int64_t bytes, const Tensor& like) {
    if (bytes <= kKept) {
      static thread_local Kept kept[kUses];
      if (!kept[use].data) kept[use].data.reset(new (std::align_val_t{64}) char[kKept]);
      data_ = kept[use].data.get();
    } else {
      fresh_ = empty({bytes}, ScalarType::Byte, like);
      data_ = static_cast<char*>(fresh_->data_ptr());
    }
  }
  char* data() const { return data_; }

 private:
  static constexpr int64_t kKept = 1 << 20;
  struct Free {
    void operator()(char* p) const { operator delete[](p, std::align_val_t{64}); }
  };
  struct Kept {
    std::unique_ptr<char, Free> data;
  };
  std::optional<Tensor> fresh_;
  char* data_;
};

int64_t thread_count() { return static_cast<int64_t>(torch::stable::get_num_threads()); }

// ---- choice ----

double live_share(const Steps& steps, const Matrix& bits, int64_t columns) {
  const int64_t all = bits.rows * columns;
  if (all == 0) return 0.0;
  return static_cast<double>(steps.count_live(bits.words(), bits.stride, bits.rows, columns)) /
         static_cast<double>(all);
}

std::vector<int64_t> with_width(const Tensor& t, int64_t width) {
  std::vector<int64_t> sizes(t.sizes().begin(), t.sizes().end());
  sizes.back() = width;
  return sizes;
}

// ---- y ----

// Every block of the weight [N, K] as [K][block].
Scratch pack_weight(const Steps& steps, const Matrix& weight, ScalarType type) {
  const int64_t bytes = type == ScalarType::Double ? 8 : type == ScalarType::Float ? 4 : 2;
  const int64_t outputs = weight.rows, columns = weight.columns, block = steps.block;
  const int64_t blocks = (outputs + block - 1) / block, chunk = 128, chunks = (columns + chunk - 1) / chunk;
  const Scratch packed(Scratch::kPacked, blocks * columns * block * steps.sum_bytes, weight.owner);
  char* to = packed.data();
  torch::stable::parallel_for(0, blocks * chunks, 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / chunks, c = i % chunks * chunk;
      steps.pack_transposed(weight.at(b * block, c, bytes), weight.stride, std::min(block, outputs - b * block),
                            std::min(chunk, columns - c), to + (b * columns + c) * block * steps.sum_bytes);
    }
  });
  return packed;
}

// The sums of one tile of rows and one block of outputs. Where this tile is the only one, each piece of the weight is
// packed when its turn comes: it then goes from the first-level cache into the product.
struct Forward {
  const Steps& steps;
  const Matrix &x, &bits, &weight, &y;
  const char* bias;
  const char* packed;  // the whole weight, or null
  int64_t rows, words_at_once, bytes;

  void run(int64_t tile, int64_t b) const {
    alignas(64) char sums[kRows * 128 * sizeof(float)];
    alignas(64) char piece[4 * 64 * 128 * sizeof(float)];
    const int64_t block = steps.block, sum = steps.sum_bytes;
    Accumulate a{};
    a.bits = bits.words(), a.bits_stride = bits.stride;
    a.x = x.data, a.x_stride = x.stride;
    a.packed = packed ? packed + b * x.columns * block * sum : piece;
    a.sums = sums;
    a.bias = bias ? bias + b * block * bytes : nullptr;
    a.y = y.at(0, b * block, bytes), a.y_stride = y.stride;
    a.begin = tile * rows, a.end = std::min(x.rows, a.begin + rows);
    a.columns = x.columns, a.outputs = std::min(block, weight.rows - b * block);
    for (int64_t w = 0; w == 0 || w < bits.columns; w += words_at_once) {
      a.word_begin = w, a.word_end = std::min(bits.columns, w + words_at_once);
      a.first = w == 0, a.last = a.word_end == bits.columns;
      if (!packed) {
        const int64_t wide = std::min(x.columns - w * 64, words_at_once * 64);
        steps.pack_transposed(weight.at(b * block, w * 64, bytes), weight.stride, a.outputs, wide, piece);
        a.packed_word = w;
      }
      steps.accumulate(a);
    }
  }
};

void forward_tiles(const Steps& steps, const Matrix& x, const Matrix& bits, const Matrix& weight, const void* bias,
                   ScalarType type, int64_t words_at_once, const Matrix& y) {
  const int64_t blocks = (weight.rows + steps.block - 1) / steps.block, threads = thread_count();
  int64_t tall = kRows;  // less where threads would have nothing to do
  while (tall > 32 && (x.rows + tall - 1) / tall * blocks < threads) tall /= 2;
  const int64_t tiles = (x.rows + tall - 1) / tall;
  std::optional<Scratch> packed;
  if (tiles > 1) packed.emplace(pack_weight(steps, weight, type));
  const Forward job{steps,
                    x,
                    bits,
                    weight,
                    y,
                    static_cast<const char*>(bias),
                    packed ? packed->data() : nullptr,
                    tall,
                    words_at_once,
                    static_cast<int64_t>(y.owner.element_size())};
  torch::stable::parallel_for(0, tiles * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) job.run(i / blocks, i % blocks);
  });
}

Tensor forward(Tensor x, Tensor bits, Tensor weight, std::optional<Tensor> bias, int64_t /*structure*/, int64_t route) {
  forward_calls.add();
  check_forward(x, bits, weight, bias ? &*bias : nullptr);
  const ScalarType type = x.scalar_type();
  const Steps& steps = steps_for(type);
  const Matrix xm = matrix(x), bm = matrix(bits), wm = matrix(weight);
  const double live = live_share(steps, bm, xm.columns);
  if (goes_dense(route, Product::kForward, dtype_of(type), xm.rows, xm.columns, wm.rows, live)) {
    const Tensor y = dense_forward({steps, bm, type, live}, xm, weight, bias);
    if (x.dim() == 2) return y;
    return torch::stable::reshape(y, with_width(x, wm.rows));
  }
  Tensor y = empty_with_width(x, wm.rows, type);
  Matrix ym{y, xm.rows, wm.rows, wm.rows, static_cast<char*>(y.data_ptr())};
  const std::optional<Tensor> b = bias ? std::optional<Tensor>(as_contiguous(*bias)) : std::nullopt;
  forward_tiles(steps, xm, bm, wm, b ? b->data_ptr() : nullptr, type, words_at_once(live), ym);
  return y;
}

// ---- dX ----

Tensor grad_input(Tensor grad, Tensor bits, Tensor weight, int64_t /*structure*/, int64_t route) {
  grad_input_calls.add();
  check_grad_input(grad, bits, weight);
  const ScalarType type = grad.scalar_type();
  const Steps& steps = steps_for(type);
  const Matrix gm = matrix(grad), bm = matrix(bits), wm = matrix(weight);
  const int64_t columns = wm.columns, outputs = wm.rows, block = steps.block;
  if (outputs == 0) return torch::stable::new_zeros(grad, with_width(grad, columns));
  const double live = live_share(steps, bm, columns);
  if (goes_dense(route, Product::kGradInput, dtype_of(type), gm.rows, columns, outputs, live)) {
    const Tensor full = dense_grad_input({steps, bm, type, live}, gm, weight);
    return grad.dim() == 2 ? full : torch::stable::reshape(full, with_width(grad, columns));
  }
  Tensor out = empty_with_width(grad, columns, type);
  const Matrix om{out, gm.rows, columns, columns, static_cast<char*>(out.data_ptr())};
  const int64_t bytes = out.element_size();
  const int64_t blocks = (outputs + block - 1) / block, tiles = (gm.rows + kGradRows - 1) / kGradRows;
  const bool in_place = bytes == steps.sum_bytes && outputs % block == 0;
  std::optional<Scratch> packed;
  if (tiles > 1) packed.emplace(pack_weight(steps, wm, type));
  // Words of one job: less than four where threads would have nothing to do.
  const int64_t wide = std::clamp<int64_t>(bm.columns * tiles / (2 * thread_count()), 1, 4);
  const int64_t parts = (bm.columns + wide - 1) / wide;
  torch::stable::parallel_for(0, tiles * parts, 1, [&](int64_t begin, int64_t end) {
    std::optional<Scratch> scratch;
    if (!in_place) scratch.emplace(Scratch::kGrad, blocks * kGradRows * block * steps.sum_bytes, out);
    GradInput g{};
    g.bits = bm.words(), g.bits_stride = bm.stride;
    g.grad = gm.data, g.grad_stride = gm.stride;
    g.packed = packed ? packed->data() : nullptr;
    g.weight = wm.data, g.weight_stride = wm.stride;
    g.grad_x = om.data, g.grad_x_stride = om.stride;
    g.columns = columns, g.outputs = outputs;
    g.many = live >= kMany;
    g.scratch = scratch ? scratch->data() : nullptr;
    for (int64_t i = begin; i < end; ++i) {
      g.begin = i / parts * kGradRows, g.end = std::min(gm.rows, g.begin + kGradRows);
      g.word_begin = i % parts * wide, g.word_end = std::min(bm.columns, g.word_begin + wide);
      steps.grad_input(g);
    }
  });
  return out;
}

// ---- dW ----

// One chunk of rows of dY and x, laid out for `accumulate`: x and the mask transposed, dY in blocks.
struct Chunk {
  int64_t tall;           // rows there is room for: kRows, or the next multiple of 64 where x has no more
  Scratch grad, x, bits;  // sums [blocks][tall][block], sums [columns][tall], words [columns][tall / 64]
};

void load_chunk(const Steps& steps, const Matrix& grad, const Matrix& x, const Matrix& bits, int64_t row, int64_t rows,
                Chunk& chunk) {
  const int64_t bytes = x.owner.element_size(), block = steps.block, sum = steps.sum_bytes;
  const int64_t blocks = (grad.columns + block - 1) / block, words = bits.columns, tall = chunk.tall;
  char* g = chunk.grad.data();
  char* t = chunk.x.data();
  uint64_t* b = reinterpret_cast<uint64_t*>(chunk.bits.data());
  torch::stable::parallel_for(0, blocks + words, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i < blocks) {
        steps.pack_straight(grad.at(row, i * block, bytes), grad.stride, rows,
                            std::min(block, grad.columns - i * block), g + i * tall * block * sum);
        continue;
      }
      const int64_t w = i - blocks, wide = std::min<int64_t>(64, x.columns - w * 64);
      steps.transpose_in(x.at(row, w * 64, bytes), x.stride, rows, wide, t + w * 64 * tall * sum, tall);
      for (int64_t r = 0; r < rows; r += 64)
        steps.transpose_bits(bits.words() + (row + r) * bits.stride + w, bits.stride, std::min<int64_t>(64, rows - r),
                             b + w * 64 * (tall / 64) + r / 64, tall / 64, wide);
    }
  });
}

// dW, chunk by chunk of rows. A part of dW goes to its place, transposed, as soon as the last chunk is in it.
Tensor grad_weight_tiles(const Steps& steps, const Matrix& grad, const Matrix& x, const Matrix& bits, ScalarType type,
                         int64_t words_at_once) {
  const int64_t block = steps.block, sum = steps.sum_bytes, outputs = grad.columns, columns = x.columns;
  const int64_t blocks = (outputs + block - 1) / block;
  const int64_t tall = std::min(kRows, dmt::words(x.rows) * 64);
  const bool few = tall == 64;
  const int64_t part = few ? kSmallPart : blocks * (columns / kPart) >= 2 * thread_count() ? kPart : kPart / 2;
  const int64_t parts = (columns + part - 1) / part;
  Tensor out = empty({outputs, columns}, type, x.owner);
  char* const result = static_cast<char*>(out.data_ptr());
  const int64_t bytes = out.element_size();
  const Scratch sums(Scratch::kSums, few ? 0 : blocks * columns * block * sum, out);  // [blocks][columns][block]
  Chunk chunk{tall,
              {Scratch::kGrad, blocks * tall * block * sum, out},
              {Scratch::kInput, columns * tall * sum, out},
              {Scratch::kBits, columns * (tall / 64) * 8, out}};
  for (int64_t row = 0; row < x.rows; row += kRows) {
    const int64_t rows = std::min(kRows, x.rows - row), words = dmt::words(rows);
    load_chunk(steps, grad, x, bits, row, rows, chunk);
    torch::stable::parallel_for(0, blocks * parts, 1, [&](int64_t begin, int64_t end) {
      alignas(64) char own[kSmallPart * 128 * sizeof(float)];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / parts, k = i % parts * part;
        Accumulate a{};
        a.bits = reinterpret_cast<const uint64_t*>(chunk.bits.data()), a.bits_stride = tall / 64;
        a.x = chunk.x.data(), a.x_stride = tall;
        a.packed = chunk.grad.data() + b * tall * block * sum;
        a.sums = few ? own : sums.data() + (b * columns + k) * block * sum;
        a.begin = k, a.end = std::min(columns, k + part);
        a.columns = rows, a.outputs = std::min(block, outputs - b * block);
        for (int64_t w = 0; w < words; w += words_at_once) {
          a.word_begin = w, a.word_end = std::min(words, w + words_at_once);
          a.first = row == 0 && w == 0;
          steps.accumulate_packed(a);
        }
        if (row + rows == x.rows)
          steps.transpose_out(a.sums, block, a.end - k, a.outputs, result + (b * block * columns + k) * bytes, columns);
      }
    });
  }
  return out;
}

Tensor grad_weight(Tensor grad, Tensor x, Tensor bits, int64_t /*structure*/, int64_t route) {
  grad_weight_calls.add();
  check_grad_weight(grad, x, bits);
  const ScalarType type = x.scalar_type();
  const Steps& steps = steps_for(type);
  const Matrix gm = matrix(grad), xm = matrix(x), bm = matrix(bits);
  if (xm.rows == 0) return torch::stable::new_zeros(x, {gm.columns, xm.columns});
  const double live = live_share(steps, bm, xm.columns);
  if (goes_dense(route, Product::kGradWeight, dtype_of(type), xm.rows, xm.columns, gm.columns, live))
    return dense_grad_weight({steps, bm, type, live}, gm, xm);
  return grad_weight_tiles(steps, gm, xm, bm, type, words_at_once(live));
}

}  // namespace
}  // namespace dmt::sparse_linear

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) {
  m.impl("sparse_linear", TORCH_BOX(&dmt::sparse_linear::forward));
  m.impl("sparse_linear_grad_input", TORCH_BOX(&dmt::sparse_linear::grad_input));
  m.impl("sparse_linear_grad_weight", TORCH_BOX(&dmt::sparse_linear::grad_weight));
}
