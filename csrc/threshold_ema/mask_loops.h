// Mask, bits and values, by a threshold that is known or between two. Part of loops.h.
#pragma once

#include "strip.h"

namespace dmt {
namespace DMT_ISA {
namespace {

// One word: compare, store the live values, return the bits.
template <Store kStore, typename V, typename T>
inline uint64_t mask_word(const V* loaded, const V* sizes, const typename V::Scalar* bounds, T* values) {
  uint64_t word = 0;
  for (int j = 0; j < kVectors; ++j) {
    const auto alive = sizes[j] > V::load(bounds + j * kLanes);
    put_out<kStore>(loaded[j].where(alive), values + j * kLanes);
    word |= static_cast<uint64_t>(alive.bits()) << (j * kLanes);
  }
  return word;
}

// What `guess_rows` adds to a mask.
template <typename V>
struct Guessing {
  const typename V::Scalar* above = nullptr;
  uint32_t* listed = nullptr;
  int64_t count = 0;
  typename V::Sum even, odd;  // as in abs_sums

  void see(const V* sizes, int64_t w, uint64_t word, uint32_t number) {
    uint64_t surely = 0;
    for (int j = 0; j < kVectors; ++j) {
      const auto alive = sizes[j] > V::load(above + w * kColumns + j * kLanes);
      surely |= static_cast<uint64_t>(alive.bits()) << (j * kLanes);
    }
    listed[count] = number;  // stays if it is counted
    count += word != surely;
    (w % 2 ? odd : even).add(fold(sizes));
  }
};

// Word w of a row; values are stored from `row_values` on.
template <typename T, Store kStore, bool kGuess, typename V>
inline uint64_t mask_strip(const MaskJob& job, const T* row_x, T* row_values, int64_t w, Guessing<V>* guessing,
                           uint32_t number) {
  const int64_t column = w * kColumns;
  const Strip<T> strip(job.width - column);
  const auto* bounds = static_cast<const typename V::Scalar*>(job.thresholds) + column;
  T in[kColumns], out[kColumns];
  const T* x = strip.whole() ? row_x + column : strip.padded(row_x + column, in);
  V loaded[kVectors], sizes[kVectors];
  for (int j = 0; j < kVectors; ++j) {
    loaded[j] = V::load(x + j * kLanes);
    sizes[j] = loaded[j].abs();
  }
  uint64_t word;
  if (strip.whole()) {
    word = mask_word<kStore>(loaded, sizes, bounds, kStore == Store::none ? out : row_values + column);
  } else {
    word = mask_word<Store::cached>(loaded, sizes, bounds, out);
    if (kStore != Store::none)
      std::memcpy(static_cast<void*>(row_values + column), out, sizeof(T) * static_cast<size_t>(strip.width));
  }
  if (kGuess) guessing->see(sizes, w, word, number);
  return word;
}

template <typename T, Store kStore, bool kGuess>
int64_t mask_rows_as(const MaskJob& job, int64_t begin, int64_t end, Guess* guess) {
  using V = typename ArithmeticOf<T>::V;
  Guessing<V> guessing;
  if (kGuess) {
    guessing.above = static_cast<const typename V::Scalar*>(guess->above);
    guessing.listed = guess->listed;
  }
  int64_t live = 0;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(job.x) + row * job.row_stride;
    T* values = kStore == Store::none ? nullptr : static_cast<T*>(job.values) + row * job.width;
    uint64_t* bits = job.bits + row * job.words;
    const auto first = static_cast<uint32_t>((row - begin) * job.words);
    for (int64_t w = 0; w < job.words; ++w) {
      bits[w] = mask_strip<T, kStore, kGuess>(job, x, values, w, &guessing, first + static_cast<uint32_t>(w));
      live += __builtin_popcountll(bits[w]);
    }
  }
  if (kStore == Store::past) end_stream();
  if (kGuess) {
    guess->count = guessing.count;
    guess->sum = guessing.even.total() + guessing.odd.total();
  }
  return live;
}

// Streaming wants whole vectors at aligned places.
inline bool may_stream(const MaskJob& job) { return job.stream && job.width == job.words * kColumns; }

template <typename T>
int64_t mask_rows(const MaskJob& job, int64_t begin, int64_t end) {
  if (!job.values) return mask_rows_as<T, Store::none, false>(job, begin, end, nullptr);
  return may_stream(job) ? mask_rows_as<T, Store::past, false>(job, begin, end, nullptr)
                         : mask_rows_as<T, Store::cached, false>(job, begin, end, nullptr);
}

template <typename T>
int64_t guess_rows(const MaskJob& job, int64_t begin, int64_t end, Guess* guess) {
  if (!job.values) return mask_rows_as<T, Store::none, true>(job, begin, end, guess);
  return may_stream(job) ? mask_rows_as<T, Store::past, true>(job, begin, end, guess)
                         : mask_rows_as<T, Store::cached, true>(job, begin, end, guess);
}

template <typename T>
int64_t mend(const MaskJob& job, int64_t begin, const uint32_t* listed, int64_t count) {
  using V = typename ArithmeticOf<T>::V;
  int64_t more = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = begin + listed[i] / job.words, w = listed[i] % job.words;
    const T* x = static_cast<const T*>(job.x) + row * job.row_stride;
    uint64_t* word = job.bits + row * job.words + w;
    more -= __builtin_popcountll(*word);
    Guessing<V>* const none = nullptr;
    *word = job.values
                ? mask_strip<T, Store::cached, false>(job, x, static_cast<T*>(job.values) + row * job.width, w, none, 0)
                : mask_strip<T, Store::none, false>(job, x, static_cast<T*>(nullptr), w, none, 0);
    more += __builtin_popcountll(*word);
  }
  return more;
}

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
