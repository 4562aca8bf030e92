// What forward and backward of threshold_ema share on the CPU: blocks, numbers of tensors, numbers per column.
//
// The work is cut into blocks whose number depends on the shape alone, and partial results are added in the order of
// the blocks: the outcome does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <new>
#include <vector>

#include "checks.h"
#include "jobs.h"

namespace dmt {

constexpr int64_t kBlock = 32768;  // elements, at least, in a block
constexpr int64_t kMaxBlocks = 64;
constexpr int64_t kMaxSummedBlocks = 16;  // where each block keeps sums of every column

inline Float dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return Float::f32;
    case ScalarType::Double:
      return Float::f64;
    case ScalarType::BFloat16:
      return Float::bf16;
    case ScalarType::Half:
      return Float::f16;
    default:
      STD_TORCH_CHECK(false, "threshold_ema expects x in float32, bfloat16, float16 or float64");
  }
}

inline Loops loops(Float dtype) {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return avx512::loops(dtype);
  if (isa() == Isa::avx2) return avx2::loops(dtype);
#endif
  return baseline::loops(dtype);
}

// Rows cut into blocks.
struct Blocks {
  int64_t rows, count;
  Blocks(int64_t rows, int64_t width, int64_t most = kMaxBlocks)
      : rows(rows), count(std::clamp<int64_t>(rows * width / kBlock, 1, std::min(most, std::max<int64_t>(rows, 1)))) {}
  int64_t begin(int64_t block) const { return rows * block / count; }
  template <typename F>
  void each(const F& work) const {
    if (count == 1) return work(0, 0, rows);
    torch::stable::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) work(b, begin(b), begin(b + 1));
    });
  }
  // For a second pass: it starts with what the first has left in the caches.
  template <typename F>
  void each_backwards(const F& work) const {
    each([&](int64_t b, int64_t, int64_t) {
      const int64_t other = count - 1 - b;
      work(other, begin(other), begin(other + 1));
    });
  }
};

inline int64_t element_size(Float dtype) { return dtype == Float::f64 ? 8 : dtype == Float::f32 ? 4 : 2; }

// Float32 or float64 numbers of a tensor, looked up once: each question to a tensor crosses the stable ABI.
class Numbers {
 public:
  explicit Numbers(const Tensor& t) : wide_(t.scalar_type() == ScalarType::Double), data_(t.mutable_data_ptr()) {
    STD_TORCH_CHECK(wide_ || t.scalar_type() == ScalarType::Float, "expected float32 or float64");
  }
  double get(int64_t at) const {
    return wide_ ? static_cast<const double*>(data_)[at] : static_cast<double>(static_cast<const float*>(data_)[at]);
  }
  void set(int64_t at, double value) const {
    if (wide_) {
      static_cast<double*>(data_)[at] = value;
    } else {
      static_cast<float*>(data_)[at] = static_cast<float>(value);
    }
  }

 private:
  bool wide_;
  void* data_;
};

// Adds the later blocks' sums, `size` each, to those of the first, in order.
inline void add_blocks(double* sums, int64_t blocks, int64_t size) {
  for (int64_t b = 1; b < blocks; ++b) {
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[b * size + i];
  }
}

// 16-bit thetas are rare and small: widened once.
inline Tensor wide_theta(const Tensor& theta) {
  const bool wide = theta.scalar_type() == ScalarType::Float || theta.scalar_type() == ScalarType::Double;
  return as_contiguous(wide ? theta : torch::stable::to(theta, ScalarType::Float));
}

// Memory that no vector straddles a cache line of: what lies across one costs twice.
template <typename N>
struct Aligned {
  using value_type = N;
  Aligned() = default;
  template <typename M>
  explicit Aligned(const Aligned<M>&) {}
  N* allocate(size_t n) { return static_cast<N*>(::operator new(n * sizeof(N), std::align_val_t{64})); }
  void deallocate(N* p, size_t) { ::operator delete(p, std::align_val_t{64}); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
template <typename N>
using AlignedVector = std::vector<N, Aligned<N>>;

// Room for so many doubles, with nothing in it yet.
class Room {
 public:
  explicit Room(int64_t count) : data_(Aligned<double>().allocate(static_cast<size_t>(count))) {}
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  ~Room() { Aligned<double>().deallocate(data_, 0); }
  double* data() const { return data_; }

 private:
  double* data_;
};

// Numbers per column in the arithmetic of dtype: float, or double for f64. Columns past the width hold `rest`.
class Columns {
 public:
  Columns(Float dtype, int64_t words, int64_t kinds = 1) : wide_(dtype == Float::f64) {
    if (wide_) {
      doubles_.resize(static_cast<size_t>(words * 64 * kinds));
    } else {
      floats_.resize(static_cast<size_t>(words * 64 * kinds));
    }
  }
  void set(int64_t at, double value) {
    if (wide_) {
      doubles_[static_cast<size_t>(at)] = value;
    } else {
      floats_[static_cast<size_t>(at)] = static_cast<float>(value);
    }
  }
  void fill(double value) {
    std::fill(doubles_.begin(), doubles_.end(), value);
    std::fill(floats_.begin(), floats_.end(), static_cast<float>(value));
  }
  double get(int64_t at) const {
    return wide_ ? doubles_[static_cast<size_t>(at)] : static_cast<double>(floats_[static_cast<size_t>(at)]);
  }
  // 1 / value in the same arithmetic, 0 for 0.
  Columns inverse() const {
    Columns r = *this;
    for (double& d : r.doubles_) d = d > 0 ? 1 / d : 0;
    for (float& f : r.floats_) f = f > 0 ? 1 / f : 0;
    return r;
  }
  const void* data() const { return wide_ ? static_cast<const void*>(doubles_.data()) : floats_.data(); }

 private:
  bool wide_;
  AlignedVector<float> floats_;
  AlignedVector<double> doubles_;
};

inline Columns thresholds(const Tensor& theta, double mu, Float dtype, int64_t width) {
  Columns t(dtype, words(width));
  const Tensor wide = wide_theta(theta);
  const Numbers raw(wide);
  if (theta.dim() == 0) {
    t.fill(sigmoid(raw.get(0)) * mu);
  } else {
    for (int64_t c = 0; c < width; ++c) t.set(c, sigmoid(raw.get(c)) * mu);
  }
  return t;
}

}  // namespace dmt
