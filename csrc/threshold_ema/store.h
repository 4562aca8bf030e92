// Whether results go past the caches on their way to memory.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "host.h"

namespace dmt {

// Bytes of the cache that a core has for itself.
inline int64_t private_cache() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (bytes > 0) return bytes;
#endif
  return 1 << 20;
}

// Whether x of so many bytes, and a result as large, no longer fit that cache, a quarter of which is left to others: a
// second pass would fetch x again.
inline bool exceeds_cache(int64_t bytes) { return 2 * bytes > private_cache() / 4 * 3; }

// Whether a mask over twice that cache is made faster past the caches than through them. Written into a cache, lines
// are first fetched and later pushed out again; what this costs depends on the cache that cores share, and no number
// that the system gives tells.
inline bool past_is_faster() {
  constexpr int64_t kWidth = 1024;
  const int64_t rows = std::max<int64_t>(private_cache() / (4 * kWidth), 1);
  AlignedVector<float> x(static_cast<size_t>(rows * kWidth)), values(x.size()), thresholds(kWidth);
  std::vector<uint64_t> bits(x.size() / 64);
  MaskJob job{x.data(), values.data(), bits.data(), thresholds.data(), nullptr, kWidth, kWidth, kWidth / 64, false};
  const MaskRows mask = loops(Float::f32).mask_rows;
  double best[2] = {1, 1};
  for (int i = 0; i < 12; ++i) {
    job.stream = i % 2 != 0;
    const auto start = std::chrono::steady_clock::now();
    mask(job, 0, rows);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    if (i >= 2) best[i % 2] = std::min(best[i % 2], spent.count());
  }
  return best[1] < best[0];
}

// Whether a result of so many bytes, as large as x, goes past the caches. From kSurely on it would not be found there.
inline bool goes_past(int64_t bytes) {
  constexpr int64_t kSurely = 16 << 20;
  if (2 * bytes > kSurely || !exceeds_cache(bytes)) return 2 * bytes > kSurely;
  static const bool faster = past_is_faster();  // once: some milliseconds
  return faster;
}

}  // namespace dmt
