// The steps of steps.h, for the instruction set this translation unit is compiled for.
#pragma once

#include "steps.h"
#include "vector.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace dmt::sparse_linear {
namespace {

constexpr int kVectors = 8;  // of one block: with a factor and an operand they fit 16 registers
template <class T>
constexpr int64_t kBlock = kVectors * kLanes<T>;

// The bits of word `w` that belong to a column.
inline uint64_t valid_bits(int64_t w, int64_t columns) {
  const int64_t rest = columns - w * 64;
  return rest >= 64 ? ~uint64_t{0} : (uint64_t{1} << rest) - 1;
}

// ---- copies that change the layout ----

template <class S>
void pack_straight(const void* source, int64_t stride, int64_t rows, int64_t columns, void* packed) {
  using T = Sum<S>;
  const S* from = static_cast<const S*>(source);
  T* to = static_cast<T*>(packed);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += kBlock<T>) {
    int64_t c = 0;
    for (; c + kLanes<T> <= columns; c += kLanes<T>) store(to + c, load_sums(from + c));
    for (; c < columns; ++c) to[c] = to_sum(from[c]);
    for (; c < kBlock<T>; ++c) to[c] = 0;
  }
}

// At most kLanes rows and columns of `from`, transposed and converted on the way.
template <class From, class To>
inline void transpose_part(const From* from, int64_t stride, int64_t tall, int64_t wide, To* to,
                           int64_t target_stride) {
  using T = Sum<From>;
  constexpr int n = kLanes<T>;
  alignas(DMT_VECTOR_BYTES) T square[n][n];
  Vector<T> v[n];
  if (tall == n && wide == n) {
    for (int i = 0; i < n; ++i) v[i] = load_sums(from + i * stride);
    transpose_square<T>(v);
    for (int i = 0; i < n; ++i) store_sums(to + i * target_stride, v[i]);
    return;
  }
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) square[i][j] = i < tall && j < wide ? to_sum(from[i * stride + j]) : T{0};
    v[i] = load(square[i]);
  }
  transpose_square<T>(v);
  for (int i = 0; i < n; ++i) store(square[i], v[i]);
  for (int64_t i = 0; i < wide; ++i)
    for (int64_t j = 0; j < tall; ++j) from_sum(square[i][j], to[i * target_stride + j]);
}

// source [rows][columns] -> target [columns][rows], converted on the way. Whole lines of both are done with before
// the next ones.
template <class From, class To>
void transpose(const From* source, int64_t stride, int64_t rows, int64_t columns, To* target, int64_t target_stride) {
  constexpr int n = kLanes<Sum<From>>;
  for (int64_t c = 0; c < columns; c += n) {
    const int64_t wide = columns - c < n ? columns - c : n;
    for (int64_t r = 0; r < rows; r += n) {
      const int64_t tall = rows - r < n ? rows - r : n;
      const From* from = source + r * stride + c;
      To* to = target + c * target_stride + r;
#if defined(__AVX2__)
      if constexpr (std::is_same_v<From, float> && std::is_same_v<To, float>) {
        if (tall == n && wide == n) {
          for (int q = 0; q < n; q += 4) transpose_strip(from + q, stride, to + q * target_stride, target_stride);
          continue;
        }
      }
#endif
      transpose_part(from, stride, tall, wide, to, target_stride);
    }
  }
}

template <class S>
void transpose_in(const void* source, int64_t stride, int64_t rows, int64_t columns, void* target,
                  int64_t target_stride) {
  transpose(static_cast<const S*>(source), stride, rows, columns, static_cast<Sum<S>*>(target), target_stride);
}

template <class S>
void transpose_out(const void* source, int64_t source_stride, int64_t rows, int64_t columns, void* target,
                   int64_t target_stride) {
  transpose(static_cast<const Sum<S>*>(source), source_stride, rows, columns, static_cast<S*>(target), target_stride);
}

template <class S>
void pack_transposed(const void* source, int64_t stride, int64_t rows, int64_t columns, void* packed) {
  using T = Sum<S>;
  T* to = static_cast<T*>(packed);
  if (rows < kBlock<T>)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = rows; r < kBlock<T>; ++r) to[c * kBlock<T> + r] = 0;
  transpose(static_cast<const S*>(source), stride, rows, columns, to, kBlock<T>);
}

inline void transpose_bits(const uint64_t* source, int64_t stride, int64_t rows, uint64_t* target,
                           int64_t target_stride, int64_t columns) {
  alignas(64) uint64_t v[64];
  for (int64_t r = 0; r < rows; ++r) v[r] = source[r * stride];
  for (int64_t r = rows; r < 64; ++r) v[r] = 0;
  const auto swap = [&v](int h, uint64_t low) {  // exchanges the off-diagonal h x h squares
    for (int base = 0; base < 64; base += 2 * h)
      for (int i = base; i < base + h; ++i) {
        const uint64_t t = ((v[i] >> h) ^ v[i + h]) & low;
        v[i + h] ^= t;
        v[i] ^= t << h;
      }
  };
  swap(32, 0x00000000ffffffff);
  swap(16, 0x0000ffff0000ffff);
  swap(8, 0x00ff00ff00ff00ff);
  swap(4, 0x0f0f0f0f0f0f0f0f);
  swap(2, 0x3333333333333333);
  swap(1, 0x5555555555555555);
  for (int64_t c = 0; c < columns; ++c) target[c * target_stride] = v[c];
}

inline int64_t count_live(const uint64_t* bits, int64_t bits_stride, int64_t rows, int64_t columns) {
  const int64_t words = (columns + 63) / 64;
  int64_t live = 0;
  for (int64_t r = 0; r < rows; ++r, bits += bits_stride) {
    for (int64_t w = 0; w + 1 < words; ++w) live += __builtin_popcountll(bits[w]);
    if (words > 0) live += __builtin_popcountll(bits[words - 1] & valid_bits(words - 1, columns));
  }
  return live;
}

template <class S>
void apply_mask(const void* source, int64_t stride, const uint64_t* bits, int64_t bits_stride, int64_t rows,
                int64_t columns, void* target, int64_t target_stride) {
  const S* from = static_cast<const S*>(source);
  S* to = static_cast<S*>(target);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += target_stride, bits += bits_stride)
    for (int64_t c = 0; c < columns; c += 64) {
      const uint64_t word = bits[c / 64];
      const int64_t wide = columns - c < 64 ? columns - c : 64;
#if defined(__AVX512F__)
      if constexpr (std::is_same_v<S, float>) {
        if (wide == 64) {
          for (int i = 0; i < 64; i += 16)
            _mm512_storeu_ps(to + c + i, _mm512_maskz_loadu_ps(static_cast<__mmask16>(word >> i), from + c + i));
          continue;
        }
      }
#endif
#if defined(__AVX512BW__)
      if constexpr (sizeof(S) == 2) {
        if (wide == 64) {
          for (int i = 0; i < 64; i += 32)
            _mm512_storeu_si512(to + c + i, _mm512_maskz_loadu_epi16(static_cast<__mmask32>(word >> i), from + c + i));
          continue;
        }
      }
#endif
      for (int64_t i = 0; i < wide; ++i) to[c + i] = (word >> i) & 1 ? from[c + i] : S{};
    }
}

// Rows lie far apart, so the processor does not guess the next one: what a row will need is fetched while the ones
// before it are worked on.
constexpr int64_t kRowsAhead = 4;

inline void fetch(const void* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i);
}

// ---- sums over live elements ----

template <class S, class X, int NV>
void accumulate_block(const Accumulate& a) {
  using T = Sum<S>;
  constexpr int n = kLanes<T>;
  const bool direct = std::is_same_v<S, T> && a.last && a.y && a.outputs == NV * n;
  alignas(DMT_VECTOR_BYTES) T bias[NV * n] = {};
  if (a.first && a.bias)
    for (int64_t i = 0; i < a.outputs; ++i) bias[i] = to_sum(static_cast<const S*>(a.bias)[i]);
  for (int64_t r = a.begin; r < a.end; ++r) {
    const uint64_t* bits = a.bits + r * a.bits_stride;
    const X* x = static_cast<const X*>(a.x) + r * a.x_stride;
    T* sums = static_cast<T*>(a.sums) + (r - a.begin) * kBlock<T>;
    const T* start = a.first ? bias : sums;
    if (a.word_end - a.word_begin == 1 && r + kRowsAhead < a.end) {  // of more words, few lines are live
      fetch(bits + kRowsAhead * a.bits_stride + a.word_begin, 1);
      fetch(x + kRowsAhead * a.x_stride + a.word_begin * 64, 64 * sizeof(X));
    }
    Vector<T> acc[NV];
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) acc[i] = load(start + i * n);
    for (int64_t w = a.word_begin; w < a.word_end; ++w) {
      uint64_t live = bits[w] & valid_bits(w, a.columns);
      const T* packed = static_cast<const T*>(a.packed) + (w - a.packed_word) * 64 * kBlock<T>;
      while (live) {
        const int k = __builtin_ctzll(live);
        live &= live - 1;
        const Vector<T> factor = everywhere(to_sum(x[w * 64 + k]));
        const T* p = packed + k * kBlock<T>;
#pragma GCC unroll 8
        for (int i = 0; i < NV; ++i) acc[i] += factor * load(p + i * n);
      }
    }
    T* end = sums;
    if constexpr (std::is_same_v<S, T>)
      if (direct) end = static_cast<T*>(a.y) + r * a.y_stride;
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) store(end + i * n, acc[i]);
    if (a.last && a.y && !direct) {
      S* y = static_cast<S*>(a.y) + r * a.y_stride;
      int64_t i = 0;
      for (; i + n <= a.outputs; i += n) store_sums(y + i, load(sums + i));
      for (; i < a.outputs; ++i) from_sum(sums[i], y[i]);
    }
  }
}

template <class S, class X>
void accumulate(const Accumulate& a) {
  const int64_t vectors = (a.outputs + kLanes<Sum<S>> - 1) / kLanes<Sum<S>>;
  if (vectors > 4) return accumulate_block<S, X, 8>(a);
  if (vectors > 2) return accumulate_block<S, X, 4>(a);
  if (vectors > 1) return accumulate_block<S, X, 2>(a);
  return accumulate_block<S, X, 1>(a);
}

// ---- products sampled at live elements ----

// Where 32 registers hold two blocks of dY, the sums across a vector, which cost a third of a block's products, are
// taken for both at once. The weights of half a word's columns are then what fits the first-level cache.
#if defined(__AVX512F__)
constexpr bool kPairs = true;
#else
constexpr bool kPairs = false;
#endif

// What dX samples at a time: columns `mask` of word `w`, and blocks of outputs `step` (weights) and `grad_step` (dY)
// elements apart.
template <class T>
struct Sampled {
  int64_t row, rows, w;
  uint64_t mask;
  const T* packed;
  int64_t step;
  const T* grad;
  int64_t grad_stride, grad_step;
  T* sums;  // one for each live element of the rows, in order
  bool first;
};

// Adds the products of one block, or of a pair, to the sums.
template <class T, int NV, int NB = 1>
void sample_block(const GradInput& g, const Sampled<T>& s) {
  constexpr int n = kLanes<T>, flush = 64;
  alignas(DMT_VECTOR_BYTES) T part[(flush + 64) * n];  // a vector of partial sums for each live element
  int64_t pending = 0, done = 0;
  const int64_t row = s.row, rows = s.rows, w = s.w, grad_stride = s.grad_stride;
  const uint64_t valid = valid_bits(w, g.columns) & s.mask;
  T* const sums = s.sums;
  const auto reduce = [&](int64_t from) {
    Vector<T> v[n];
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) v[i] = load(part + (from + i) * n);
    Vector<T> total = sum_each<T>(v);
    if (!s.first) total += load(sums + done);
    store(sums + done, total);
  };
  for (int64_t r = 0; r < rows; ++r) {
    uint64_t live = g.bits[(row + r) * g.bits_stride + w] & valid;
    if (!live) continue;
    const T* from = s.grad + r * grad_stride;
    if (r + kRowsAhead < rows) {
      fetch(g.bits + (row + r + kRowsAhead) * g.bits_stride + w, 1);
      for (int b = 0; b < NB; ++b) fetch(from + kRowsAhead * grad_stride + b * s.grad_step, NV * n * sizeof(T));
    }
    Vector<T> d[NB * NV];
#pragma GCC unroll 2
    for (int b = 0; b < NB; ++b)
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i) d[b * NV + i] = load(from + b * s.grad_step + i * n);
    while (live) {
      const int k = __builtin_ctzll(live);
      live &= live - 1;
      const T* p = s.packed + k * kBlock<T>;
      Vector<T> sum = d[0] * load(p);  // one chain: the next live elements fill the time it waits
#pragma GCC unroll 8
      for (int i = 1; i < NV; ++i) sum += d[i] * load(p + i * n);
      if constexpr (NB == 2) {
        p += s.step;
        Vector<T> other = d[NV] * load(p);  // a second one, or the first would be waited for
#pragma GCC unroll 8
        for (int i = 1; i < NV; ++i) other += d[NV + i] * load(p + i * n);
        sum += other;
      }
      store(part + pending * n, sum);
      ++pending;
    }
    if (pending >= flush) {
      int64_t from_part = 0;
      for (; from_part + n <= pending; from_part += n, done += n) reduce(from_part);
      pending -= from_part;
      for (int64_t i = 0; i < pending; ++i) store(part + i * n, load(part + (from_part + i) * n));
    }
  }
  for (int64_t i = pending; i < (pending + n - 1) / n * n; ++i) store(part + i * n, Vector<T>{});
  for (int64_t from_part = 0; from_part < pending; from_part += n, done += n) reduce(from_part);
}

// `outputs` that are left; returns how many blocks of them are done with.
template <class T>
int64_t sample(const GradInput& g, const Sampled<T>& s, int64_t outputs, bool pairs) {
  if constexpr (kPairs) {
    if (pairs && outputs > kBlock<T> + 4 * kLanes<T>) {
      sample_block<T, 8, 2>(g, s);
      return 2;
    }
  }
  if (outputs > 4 * kLanes<T>)
    sample_block<T, 8>(g, s);
  else if (outputs > 2 * kLanes<T>)
    sample_block<T, 4>(g, s);
  else
    sample_block<T, 2>(g, s);
  return 1;
}

// The next live sums to their columns, zeros to the others; returns how many were used.
template <class S>
inline int64_t expand(uint64_t live, const Sum<S>* sums, S* to, int64_t columns) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<S, float>) {
    if (columns % 16 == 0) {
#pragma GCC unroll 4
      for (int i = 0; i < columns / 16; ++i) {
        const __mmask16 m = static_cast<__mmask16>(live >> (16 * i));
        _mm512_storeu_ps(to + 16 * i, _mm512_maskz_expand_ps(m, _mm512_loadu_ps(sums)));
        sums += __builtin_popcount(m);
      }
      return __builtin_popcountll(live);
    }
  }
#endif
  for (int64_t c = 0; c < columns; ++c) to[c] = S{};
  int64_t used = 0;
  for (; live; live &= live - 1) from_sum(sums[used++], to[__builtin_ctzll(live)]);
  return used;
}

// The weight of one word of columns and one block of outputs, as [64][block].
template <class S>
void pack_tile(const GradInput& g, int64_t w, int64_t block, Sum<S>* tile) {
  constexpr int64_t size = kBlock<Sum<S>>;
  const int64_t outputs = g.outputs - block * size, columns = g.columns - w * 64;
  pack_transposed<S>(static_cast<const S*>(g.weight) + block * size * g.weight_stride + w * 64, g.weight_stride,
                     outputs < size ? outputs : size, columns < 64 ? columns : 64, tile);
}

template <class S>
void grad_input(const GradInput& g) {
  using T = Sum<S>;
  constexpr int64_t size = kBlock<T>;
  const int64_t blocks = (g.outputs + size - 1) / size;
  const bool pairs = kPairs && g.many && blocks > 1;
  const int64_t pieces = pairs ? 2 : 1, wide = 64 / pieces;  // of a word's columns
  alignas(64) T room[kGradRows * 64 + 2 * kLanes<T>];
  T* const sums[2] = {room, room + kGradRows * 32 + kLanes<T>};
  alignas(64) T tiles[2][64 * size];
  T* scratch = static_cast<T*>(g.scratch);
  for (int64_t row = g.begin; row < g.end; row += kGradRows) {
    const int64_t rows = g.end - row < kGradRows ? g.end - row : kGradRows;
    const S* grad = static_cast<const S*>(g.grad) + row * g.grad_stride;
    if (scratch)
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t rest = g.outputs - b * size;
        pack_straight<S>(grad + b * size, g.grad_stride, rows, rest < size ? rest : size,
                         scratch + b * kGradRows * size);
      }
    for (int64_t w = g.word_begin; w < g.word_end; ++w) {
      const auto mask = [=](int64_t piece) { return pairs ? uint64_t{0xffffffff} << (piece * 32) : ~uint64_t{0}; };
      for (int64_t b = 0, done = 1; b < blocks; b += done) {
        Sampled<T> s{row, rows, w, 0, tiles[0], 64 * size, nullptr, size, kGradRows * size, nullptr, b == 0};
        if (g.packed) {
          s.packed = static_cast<const T*>(g.packed) + (b * g.columns + w * 64) * size;
          s.step = g.columns * size;
        } else {
          pack_tile<S>(g, w, b, tiles[0]);
          if (pairs && b + 1 < blocks) pack_tile<S>(g, w, b + 1, tiles[1]);
        }
        if (scratch) {
          s.grad = scratch + b * kGradRows * size;
        } else if constexpr (std::is_same_v<S, T>) {
          s.grad = grad + b * size, s.grad_stride = g.grad_stride, s.grad_step = size;
        }
        for (int64_t i = 0; i < pieces; ++i) {
          s.mask = mask(i), s.sums = sums[i];
          done = sample(g, s, g.outputs - b * size, pairs);
        }
      }
      for (int64_t i = 0; i < pieces && w * 64 + i * wide < g.columns; ++i) {
        const int64_t first = w * 64 + i * wide, rest = g.columns - first;
        const T* next = sums[i];
        for (int64_t r = 0; r < rows; ++r) {
          const uint64_t live = g.bits[(row + r) * g.bits_stride + w] & valid_bits(w, g.columns) & mask(i);
          S* to = static_cast<S*>(g.grad_x) + (row + r) * g.grad_x_stride + first;
          next += expand<S>(live >> (i * wide), next, to, rest < wide ? rest : wide);
        }
      }
    }
  }
}

template <class S>
constexpr Steps kSteps = {
    kBlock<Sum<S>>, sizeof(Sum<S>),   pack_transposed<S>,    pack_straight<S>, transpose_in<S>, transpose_out<S>,
    transpose_bits, accumulate<S, S>, accumulate<S, Sum<S>>, grad_input<S>,    count_live,      apply_mask<S>,
};

inline const Steps* steps_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat:
      return &kSteps<float>;
    case Dtype::kDouble:
      return &kSteps<double>;
    case Dtype::kBfloat16:
      return &kSteps<Bfloat16>;
    case Dtype::kHalf:
      return &kSteps<Half>;
  }
  return nullptr;
}

}  // namespace
}  // namespace dmt::sparse_linear
