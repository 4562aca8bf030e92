// What is asked of a CUDA device once: a question costs as much as a launch.
#pragma once

#include <algorithm>
#include <atomic>

#include "cuda_common.h"

namespace dmt {

constexpr int kDevices = 64;  // of which something is remembered apart

struct Device {
  int multiprocessors = 0, cache = 0;  // cache: bytes of L2
  int major = 0, minor = 0;            // compute capability
};

// The current device's place among what is remembered.
inline int device_place() {
  int device = 0;
  cuda_check(cudaGetDevice(&device));
  return std::min(device, kDevices - 1);
}

inline const Device& this_device() {
  static Device known[kDevices];
  static std::atomic<bool> asked[kDevices];
  const int place = device_place();
  if (!asked[place].load(std::memory_order_acquire)) {
    int device = 0;
    cuda_check(cudaGetDevice(&device));
    const auto attribute = [device](cudaDeviceAttr which) {
      int value = 0;
      cuda_check(cudaDeviceGetAttribute(&value, which, device));
      return value;
    };
    known[place] = {attribute(cudaDevAttrMultiProcessorCount), attribute(cudaDevAttrL2CacheSize),
                    attribute(cudaDevAttrComputeCapabilityMajor), attribute(cudaDevAttrComputeCapabilityMinor)};
    asked[place].store(true, std::memory_order_release);  // whoever comes at the same time writes the same
  }
  return known[place];
}

}  // namespace dmt
