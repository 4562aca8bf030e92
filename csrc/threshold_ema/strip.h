// Sizes and strips of columns. Part of loops.h.
#pragma once

#include "../simd.h"
#include "jobs.h"

namespace dmt {
namespace DMT_ISA {
namespace {

constexpr int kColumns = 64;  // of one word
constexpr int kVectors = kColumns / kLanes;
constexpr int kCoefficients = 5;
constexpr int kSums = 5;
constexpr int64_t kRows = 16, kSummedRows = 64;  // summed in float before they are added to double

// A strip of up to 64 columns: the last of a row may be narrower and goes through a buffer.
template <typename T>
struct Strip {
  int64_t width;  // columns of this strip
  bool whole() const { return width == kColumns; }
  const T* padded(const T* from, T* buffer) const {
    std::memset(static_cast<void*>(buffer), 0, sizeof(T) * kColumns);
    std::memcpy(static_cast<void*>(buffer), from, sizeof(T) * static_cast<size_t>(width));
    return buffer;
  }
};

}  // namespace
}  // namespace DMT_ISA
}  // namespace dmt
