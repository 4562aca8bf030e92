// Stream, device and number types for CUDA kernels.
#pragma once

#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "common.h"

namespace dmt {

inline cudaStream_t stream_of(const Tensor& x) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

inline void cuda_check(cudaError_t error) {
  if (error != cudaSuccess) cudaGetLastError();  // or whoever launches next would be told of it again
  STD_TORCH_CHECK(error == cudaSuccess, cudaGetErrorString(error));
}

// To be called after each launch; does not wait for the kernel.
inline void launch_check() { cuda_check(cudaGetLastError()); }

// All blocks of a cooperative launch meet.
__device__ inline void grid_sync() { cooperative_groups::this_grid().sync(); }

__device__ inline float widen(float v) { return v; }
__device__ inline double widen(double v) { return v; }
__device__ inline float widen(__half v) { return __half2float(v); }
__device__ inline float widen(__nv_bfloat16 v) { return __bfloat162float(v); }

template <typename T>
__device__ inline T narrow(float v) {
  return static_cast<T>(v);
}
template <>
__device__ inline __half narrow<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}
template <typename T>
__device__ inline T narrow(double v) {
  return static_cast<T>(v);
}

}  // namespace dmt
